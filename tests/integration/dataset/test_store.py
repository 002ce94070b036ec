"""The tables on SQLite and on PostgreSQL: migrations give what the code expects, numbers and holds are exact."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.chassis.data import Database, differences
from services.dataset.__main__ import MIGRATIONS
from services.dataset.domain import (
    BadRowPolicy,
    Dataset,
    DatasetVersion,
    Format,
    RefusedRow,
    Source,
    State,
    StoredFile,
    Work,
)
from services.dataset.store import DatasetUnit, metadata

pytestmark = pytest.mark.integration

NOW = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite:///{tmp_path}/dataset.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    opened = await Database.open(url, "dataset", MIGRATIONS)
    yield opened
    await opened.close()


def make_version(number: int, state: State = State.IMPORTING) -> DatasetVersion:
    return DatasetVersion(
        id=f"dsv-{number}",
        project="p",
        dataset_id="ds-1",
        dataset_name="d",
        number=number,
        state=state,
        source=Source(file_id="file-1"),
        format=Format.ALPACA,
        columns={"output": "reply"},
        bad_row_policy=BadRowPolicy.SKIP,
        max_bad_rows=7,
        draft=True,
        metadata={"k": "v"},
        create_time=NOW,
    )


async def seed(database: Database, *versions: DatasetVersion) -> None:
    async with DatasetUnit(database) as uow:
        await uow.datasets.add(Dataset("ds-1", "p", "d", "Title", {"a": "b"}, 0, NOW, NOW))
        for version in versions:
            await uow.versions.add(version)
            await uow.add_work(Work(version.id))
        await uow.commit()


async def test_migrations_give_the_tables_of_the_code(database: Database) -> None:
    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences, metadata) == []


async def test_what_is_stored_comes_back_equal(database: Database) -> None:
    version = make_version(1)
    await seed(database, version)
    file = StoredFile("file-1", "p", "a.jsonl", "evals", 3, "00", NOW)
    async with DatasetUnit(database) as uow:
        await uow.files.add(file)
        assert await uow.files.get("p", "file-1") == file
        assert await uow.versions.get("p", "dsv-1") == version
        assert await uow.work_of(["dsv-1"]) == {"dsv-1": Work("dsv-1")}
        assert await uow.importers_of_file("p", "file-1") == ["d@1"]


async def test_twenty_writers_get_twenty_numbers(database: Database) -> None:
    await seed(database)

    async def one() -> int:
        async with DatasetUnit(database) as uow:
            number = await uow.next_number("ds-1")
            await uow.commit()
            return number

    assert sorted(await asyncio.gather(*(one() for _ in range(20)))) == list(range(1, 21))


async def test_newest_published(database: Database) -> None:
    states = (State.PUBLISHED, State.PUBLISHED, State.READY, State.FAILED)
    await seed(database, *(make_version(number, state) for number, state in enumerate(states, 1)))
    async with DatasetUnit(database, write=False) as uow:
        assert await uow.newest_published(["ds-1", "ds-2"]) == {"ds-1": 2}
        for key, published, number in ((None, False, 4), (None, True, 2), (3, True, 3), ("dsv-1", False, 1)):
            found = await uow.version_of("ds-1", key, published=published)
            assert found is not None
            assert found.number == number
        assert await uow.version_of("ds-1", 9) is None


async def test_work_is_changed_under_its_token_only(database: Database) -> None:
    await seed(database, make_version(1))
    async with DatasetUnit(database) as uow:
        assert await uow.change_work("dsv-1", 0, token=1, owner="me")
        assert not await uow.change_work("dsv-1", 0, row_count=5)
        assert await uow.change_work("dsv-1", 1, row_count=5)
        assert (await uow.work_of(["dsv-1"]))["dsv-1"].row_count == 5


async def test_a_report_is_replaced_and_paged(database: Database) -> None:
    rows = [RefusedRow("dsv-1", position, position * 2, "f", "CODE", "message", "s") for position in range(5)]
    async with DatasetUnit(database) as uow:
        await uow.put_row_errors("dsv-1", rows)
        await uow.put_row_errors("dsv-1", rows[:4])
        assert await uow.row_errors("dsv-1", 1, 2) == rows[1:3]
        assert await uow.row_errors("dsv-1", 3, 9) == rows[3:4]


async def test_a_deleted_version_leaves_nothing(database: Database) -> None:
    version = make_version(1)
    await seed(database, version)
    async with DatasetUnit(database) as uow:
        await uow.put_row_errors("dsv-1", [RefusedRow("dsv-1", 0, 1, "f", "C", "m", "s")])
        await uow.delete_version(version)
        assert await uow.versions.by_id("dsv-1") is None
        assert await uow.work_of(["dsv-1"]) == {}
        assert await uow.row_errors("dsv-1", 0, 9) == []
