"""Files are deleted by rows of the deleting transaction, on SQLite and on PostgreSQL, with a real store."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from deploy.local.testing import RealObjects
from services.chassis.clock import now
from services.chassis.data import Database, UnitOfWork, chassis_metadata, draft
from services.chassis.errors import Denied, NotFound, Unavailable
from services.chassis.garbage import Garbage, GarbageCollector, discard, garbage_table
from services.chassis.objects import ForeignRules, ObjectStore, StoreAccess
from tests.hostile_store import hostile_store

pytestmark = pytest.mark.contract
BUCKET = "garbage"

metadata = chassis_metadata()
GARBAGE = garbage_table(metadata)


@pytest.fixture
async def database(database_url: str, tmp_path: Path) -> AsyncIterator[Database]:
    versions = tmp_path / "migrations" / "versions"
    versions.mkdir(parents=True)
    (versions / "0001_initial.py").write_text(draft(metadata))
    opened = await Database.open(database_url, "garbage", versions.parent)
    yield opened
    await opened.close()


@pytest.fixture
def store(s3_server: RealObjects) -> ObjectStore:
    store = ObjectStore(StoreAccess(s3_server.url, s3_server.access_key, s3_server.secret_key, s3_server.region))
    store.ensure_bucket(BUCKET)
    for key in ("a/1/x", "a/1/y/z", "a/10/x"):
        store.put_bytes(BUCKET, key, b"x")
    return store


async def note(database: Database, prefix: str, *, commit: bool = True) -> None:
    async with UnitOfWork(database) as uow:
        await discard(uow, GARBAGE, BUCKET, prefix, "proj-1", "cred-1")
        if commit:
            await uow.commit()


async def rows(database: Database) -> list[Garbage]:
    async with UnitOfWork(database, write=False) as uow:
        return [Garbage(**row) for row in (await uow.connection.execute(select(GARBAGE))).mappings()]


def collector(database: Database, answer: StoreAccess | Exception) -> GarbageCollector:
    async def open_store(garbage: Garbage) -> tuple[StoreAccess, str]:
        assert (garbage.project, garbage.credential) == ("proj-1", "cred-1")
        if isinstance(answer, Exception):
            raise answer
        return answer, garbage.bucket

    return GarbageCollector(database, GARBAGE, open_store)


def keys(store: ObjectStore) -> list[str]:
    return sorted(info.key for info in store.list(BUCKET, "a"))


async def test_a_folder_is_deleted_after_its_transaction_and_no_other(database: Database, store: ObjectStore) -> None:
    for _ in range(2):
        await note(database, "a/1")
    assert await collector(database, store.access).tick() == 1
    assert keys(store) == ["a/10/x"]
    assert await rows(database) == []


async def test_a_transaction_that_does_not_commit_deletes_nothing(database: Database, store: ObjectStore) -> None:
    await note(database, "a/1", commit=False)
    assert await collector(database, store.access).tick() == 0
    assert len(keys(store)) == 3


async def test_a_process_that_is_killed_leaves_the_rest_to_the_next(database: Database, store: ObjectStore) -> None:
    """The registry deleted after its commit, inside the call: a kill in between leaked the weights for ever."""
    await note(database, "a/1")
    store.delete_prefix(BUCKET, "a/1")  # and killed before its row was forgotten
    assert await collector(database, store.access).tick() == 1
    assert await rows(database) == []


async def test_files_whose_credential_is_gone_are_forgotten(database: Database) -> None:
    await note(database, "a/1")
    assert await collector(database, NotFound.of("credential", "cred-1")).tick() == 1
    assert await rows(database) == []


@pytest.mark.parametrize("error", [Unavailable("The store does not answer."), Denied("The key may not delete.")])
async def test_what_cannot_be_deleted_is_tried_later_and_named(database: Database, error: Exception) -> None:
    await note(database, "a/1")
    broken = collector(database, error)
    assert await broken.tick() == 0
    (row,) = await rows(database)
    assert (row.attempts, row.last_error) == (1, str(error))
    assert now() < row.next_time <= now() + timedelta(seconds=5)
    assert await broken.tick() == 0  # not before its time
    assert (await rows(database))[0].attempts == 1
    assert broken.degraded() == []
    for _ in range(2):
        async with UnitOfWork(database) as uow:
            await uow.connection.execute(update(GARBAGE).values(next_time=now()))
            await uow.commit()
        await broken.tick()
    assert (await rows(database))[0].next_time > now() + timedelta(seconds=10)
    (lack,) = broken.degraded()
    assert "garbage/a/1" in lack.message and str(error) in lack.message


def test_the_delay_doubles_up_to_an_hour() -> None:
    row = Garbage(now(), BUCKET, "a/1")
    delays = []
    for _ in range(12):
        moment = now()
        row = row.failed("no", moment)
        delays.append((row.next_time - moment).total_seconds())
    assert delays[:4] == [5, 10, 20, 40]
    assert delays[-1] == 3600


@pytest.mark.parametrize("kind", ["missing", "no-key", "text"])
async def test_a_malformed_answer_keeps_no_other_folder_from_deletion(
    database: Database, store: ObjectStore, kind: str
) -> None:
    with hostile_store() as hostile:

        async def open_store(garbage: Garbage) -> tuple[StoreAccess, str]:
            bad = garbage.bucket == kind
            return (
                replace(hostile.access, foreign=ForeignRules(("127.0.0.1",))) if bad else store.access
            ), garbage.bucket

        async with UnitOfWork(database) as uow:
            await discard(uow, GARBAGE, kind, "a/1", "proj-2", "cred-2")
            await uow.commit()
        await note(database, "a/1")
        assert await GarbageCollector(database, GARBAGE, open_store).tick() == 1
    assert keys(store) == ["a/10/x"]
    assert [(row.bucket, row.attempts) for row in await rows(database)] == [(kind, 1)]
