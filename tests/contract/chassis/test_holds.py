"""Holds, on SQLite and on PostgreSQL: the same for data sets and models."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.chassis.data import Database, chassis_metadata, draft
from services.chassis.errors import WrongState
from services.chassis.holds import (
    Hold,
    HoldingUnit,
    confirm_holds,
    drop_fallen_holds,
    holds_table,
    refuse_held,
    release_holds,
)

pytestmark = pytest.mark.contract
NOW = datetime(2026, 11, 24, tzinfo=UTC)
OLD = NOW - timedelta(hours=1)
LIMIT = NOW - timedelta(minutes=10)

metadata = chassis_metadata()
HOLDS = holds_table(metadata)


@pytest.fixture
async def database(database_url: str, tmp_path: Path) -> AsyncIterator[Database]:
    versions = tmp_path / "migrations" / "versions"
    versions.mkdir(parents=True)
    (versions / "0001_initial.py").write_text(draft(metadata))
    opened = await Database.open(database_url, "holds", versions.parent)
    yield opened
    await opened.close()


def unit(database: Database) -> HoldingUnit:
    return HoldingUnit(database, HOLDS)


async def holders(database: Database, oldest: datetime = LIMIT) -> list[str]:
    async with unit(database) as uow:
        return sorted(await uow.holds.holders(["v-1"], oldest))


async def take(database: Database, *wanted: tuple[str, datetime]) -> None:
    async with unit(database) as uow:
        for holder, moment in wanted:
            await uow.holds.take(Hold("v-1", holder, "p", False, moment))
        await uow.commit()


async def test_a_hold_is_taken_once_and_falls_when_it_is_not_confirmed(database: Database) -> None:
    await take(database, ("job-1", NOW), ("job-1", NOW), ("job-2", OLD), ("job-3", OLD), ("job-4", LIMIT))
    await confirm_holds(unit(database), "p", "job-3")
    await confirm_holds(unit(database), "other", "job-2")
    assert await holders(database) == ["job-1", "job-3"]  # at the limit it has fallen: the registry still counted it
    await drop_fallen_holds(unit(database), LIMIT)
    assert await holders(database, OLD - timedelta(1)) == ["job-1", "job-3"]
    await release_holds(unit(database), "other", "job-3")
    await release_holds(unit(database), "p", "job-1")
    assert await holders(database) == ["job-3"]


async def test_taking_again_leaves_a_confirmed_hold_confirmed(database: Database) -> None:
    await take(database, ("job-1", OLD))
    await confirm_holds(unit(database), "p", "job-1")
    await take(database, ("job-1", NOW))
    assert await holders(database, NOW + timedelta(1)) == ["job-1"]


async def test_an_event_is_heard_once(database: Database) -> None:
    await take(database, ("job-1", NOW))
    await release_holds(unit(database), "p", "job-1", "evt_1")
    await take(database, ("job-1", NOW))
    await release_holds(unit(database), "p", "job-1", "evt_1")
    assert await holders(database) == ["job-1"]


async def test_a_deleted_version_has_no_holds(database: Database) -> None:
    await take(database, ("job-1", NOW))
    async with unit(database) as uow:
        await uow.holds.forget("v-1")
        await uow.commit()
    assert await holders(database) == []


def test_what_is_held_names_its_holders() -> None:
    refuse_held("dataset", "d", [])
    with pytest.raises(WrongState, match="used by a, b") as caught:
        refuse_held("dataset", "d", ["b", "a", "a"])
    assert caught.value.metadata["holders"] == "a,b"
