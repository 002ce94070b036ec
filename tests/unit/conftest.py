"""What the unit tests of several services share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from deploy.tooling.sources import ROOT
from services.chassis.data import Database

OpenDatabase = Callable[[str], Awaitable[Database]]


@pytest.fixture
async def open_database(tmp_path: Path) -> AsyncIterator[OpenDatabase]:
    """Opens a service's database, by the service's name: a file of this test with the service's own migrations."""
    async with AsyncExitStack() as opened:

        async def open_one(service: str) -> Database:
            url = f"sqlite:///{tmp_path}/{service}.db"
            database = await Database.open(url, service, ROOT / "services" / service / "migrations")
            opened.push_async_callback(database.close)
            return database

        yield open_one
