"""Each test runs twice: on the fakes, and on the clients against the real services, started once for all tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count

import pytest
import pytest_asyncio

from tests.contract.clients.fake_world import FakeWorld
from tests.contract.clients.real_world import RealWorld
from tests.contract.clients.world import World

_numbers = count(1)


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=["fake", "real"])
async def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """The clients. Tests share it: what they add has names of its own."""
    if request.param == "fake":
        yield FakeWorld()
        return
    real = RealWorld(tmp_path_factory.mktemp("services"), request.getfixturevalue("s3_server"))
    await real.start()
    yield real
    await real.stop()


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"thing-{next(_numbers)}"
