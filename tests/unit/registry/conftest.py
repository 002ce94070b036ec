"""The registry without a process: its use cases on a database of their own, with access in memory."""

from __future__ import annotations

import pytest

from services.chassis.objects import StoreAccess
from services.clients.fakes import FakeCredentials
from services.registry.operations.context import ServiceContext
from services.registry.operations.models import install_presets
from tests.unit.conftest import OpenDatabase
from tests.unit.registry.made import HOLD_SECONDS, NOW, PRESET, PROJECT

STORE = StoreAccess("http://store.invalid", "key", "secret")


@pytest.fixture
def credentials() -> FakeCredentials:
    """Access: it opens the installation's bucket and knows the project."""
    credentials = FakeCredentials(STORE, "team")
    credentials.add_project(PROJECT, "support")
    return credentials


@pytest.fixture
async def context(open_database: OpenDatabase, credentials: FakeCredentials) -> ServiceContext:
    """A registry that knows one preset."""
    context = ServiceContext(await open_database("registry"), credentials, STORE, "modelry", HOLD_SECONDS)
    await install_presets([PRESET], context, NOW)
    return context
