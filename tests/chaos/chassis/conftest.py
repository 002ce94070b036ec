"""The fixtures of all bus tests."""

from tests.bus_fixtures import *  # noqa: F403
