"""The dataset service without a process: its use cases on a database of their own, with access in memory."""

from __future__ import annotations

import pytest

from services.chassis.objects import StoreAccess
from services.clients.fakes import FakeCredentials
from services.dataset.operations.context import ServiceContext
from services.dataset.sources import Sources
from tests.unit.conftest import OpenDatabase
from tests.unit.dataset.made import HOLD_SECONDS


@pytest.fixture
async def context(open_database: OpenDatabase) -> ServiceContext:
    """An empty dataset service."""
    store = StoreAccess("http://store.invalid", "key", "secret")
    sources = Sources(FakeCredentials(store, "team"), store, "modelry")
    return ServiceContext(await open_database("dataset"), sources, HOLD_SECONDS)
