"""Units of work that share a commit on SQLite: each is atomic, none is told too early, and all fail with the commit."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text

from services.chassis.clock import now
from services.chassis.data import Database, UnitOfWork
from services.chassis.data.sqlite import SqliteEngine
from services.chassis.data.tables import inbox
from services.chassis.errors import Unavailable
from services.chassis.events import Event

pytestmark = pytest.mark.integration


@pytest.fixture
async def database(tmp_path: Path, migrations: Path) -> AsyncIterator[Database]:
    opened = await Database.open(f"sqlite:///{tmp_path}/toy.db", "toy", migrations)
    yield opened
    await opened.close()


@pytest.fixture
def commits(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator["HeldCommits"]:
    yield (held := HeldCommits(database))
    held.free.set()


class HeldCommits:
    """Makes the commits of a database wait until `free` is set, and counts them; `error` makes them fail."""

    def __init__(self, database: Database) -> None:
        assert isinstance(database.engine, SqliteEngine)
        self.count = 0
        self.free = threading.Event()
        self.begun = threading.Event()
        self.error = ""
        thread = database.engine._writer._thread
        submit = thread.submit
        thread.submit = lambda execute, *args: submit(self._commit, execute, *args)  # type: ignore[method-assign]

    def _commit(self, execute: Any, *args: Any) -> None:
        self.begun.set()
        assert self.free.wait(10)
        self.count += 1
        if self.error:
            raise sqlite3.OperationalError(self.error)
        execute(*args)

    async def first_held(self) -> None:
        await asyncio.to_thread(self.begun.wait, 10)


async def note(database: Database, event_id: str) -> None:
    async with UnitOfWork(database) as uow:
        assert await uow.first_time(event_id)
        uow.emit(Event("proj-1", "note", event_id, "made", "MADE", version=1))
        await uow.commit()


async def noted(database: Database) -> list[str]:
    async with UnitOfWork(database, write=False) as uow:
        return sorted((await uow.connection.execute(select(inbox.c.event_id))).scalars())


async def test_units_that_wait_share_the_next_commit(database: Database, commits: HeldCommits) -> None:
    first = asyncio.create_task(note(database, "first"))
    await commits.first_held()
    others = [asyncio.create_task(note(database, f"n{i}")) for i in range(8)]
    await asyncio.sleep(0)
    commits.free.set()
    await asyncio.gather(first, *others)
    assert commits.count == 2
    assert await noted(database) == ["first", *(f"n{i}" for i in range(8))]


async def test_nobody_sees_or_hears_what_is_not_on_disk(database: Database, commits: HeldCommits) -> None:
    heard: list[str] = []
    database.on_commit(lambda rows: heard.extend(row["ordering_key"] for row in rows))
    writing = asyncio.create_task(note(database, "a"))
    await commits.first_held()
    assert await noted(database) == heard == []
    assert not writing.done()
    commits.free.set()
    await writing
    assert heard == ["note/a"]
    assert await noted(database) == ["a"]


async def test_a_unit_that_fails_rolls_back_alone(database: Database, commits: HeldCommits) -> None:
    async def fail() -> None:
        async with UnitOfWork(database) as uow:
            assert await uow.first_time("lost")
            raise ZeroDivisionError

    async def leave() -> None:
        async with UnitOfWork(database) as uow:
            assert await uow.first_time("left")

    held = asyncio.create_task(note(database, "first"))
    await commits.first_held()
    units = [asyncio.create_task(one) for one in (note(database, "a"), fail(), leave(), note(database, "b"), fail())]
    await asyncio.sleep(0)
    commits.free.set()
    results = await asyncio.gather(held, *units, return_exceptions=True)
    assert [type(result) for result in results if result is not None] == [ZeroDivisionError] * 2
    assert commits.count == 2
    assert await noted(database) == ["a", "b", "first"]


async def test_a_refusal_waits_for_what_it_is_founded_on(database: Database, commits: HeldCommits) -> None:
    """The second unit finds what the first one wrote; it must not say so while a crash could still undo that."""

    async def refuse() -> None:
        async with UnitOfWork(database) as uow:
            if not await uow.first_time("a"):
                raise ZeroDivisionError

    held = asyncio.create_task(note(database, "first"))
    await commits.first_held()
    units = [asyncio.create_task(note(database, "a")), asyncio.create_task(refuse())]
    await asyncio.sleep(0)
    commits.error = "disk I/O error"
    commits.free.set()
    results = await asyncio.gather(held, *units, return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable] * 3
    commits.error = ""
    assert await noted(database) == []


async def test_a_commit_that_fails_fails_for_all_of_its_units_and_the_next_goes_on(
    database: Database, commits: HeldCommits
) -> None:
    heard: list[Any] = []
    database.on_commit(heard.extend)
    commits.error = "database or disk is full"
    commits.free.set()
    results = await asyncio.gather(*(note(database, f"n{i}") for i in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable] * 5
    assert heard == []
    commits.error = ""
    await note(database, "later")
    assert await noted(database) == ["later"]
    assert len(heard) == 1


async def test_an_error_that_rolls_everything_back_fails_the_units_before_it(
    database: Database, commits: HeldCommits
) -> None:
    async def break_all() -> None:
        async with UnitOfWork(database) as uow:
            await uow.connection.execute(insert(inbox), {"consumer": "", "event_id": "x", "create_time": now()})
            await uow.connection.execute(text("ROLLBACK"))
            await uow.connection.execute(insert(inbox), {"consumer": "", "event_id": "y", "create_time": now()})

    held = asyncio.create_task(note(database, "first"))
    await commits.first_held()
    units = [asyncio.create_task(one) for one in (note(database, "a"), break_all(), note(database, "b"))]
    await asyncio.sleep(0)
    commits.free.set()
    results = await asyncio.gather(held, *units, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), Unavailable, Unavailable, type(None)]
    assert await noted(database) == ["b", "first"]


async def test_cancelled_units_leave_nothing_and_keep_nobody_waiting(database: Database, commits: HeldCommits) -> None:
    """Cancelled while it waits for its turn, while it has it, and while its commit is on its way."""
    entered = asyncio.Event()

    async def stay() -> None:
        async with UnitOfWork(database) as uow:
            assert await uow.first_time("lost")
            entered.set()
            await asyncio.Event().wait()

    committing = asyncio.create_task(note(database, "committing"))
    await commits.first_held()
    waiting = [asyncio.create_task(note(database, f"waiting{i}")) for i in range(3)]
    staying = asyncio.create_task(stay())
    last = asyncio.create_task(note(database, "last"))
    await asyncio.sleep(0)
    for task in (committing, waiting[0], waiting[2]):
        task.cancel()
    commits.free.set()
    await entered.wait()
    staying.cancel()
    results = await asyncio.gather(committing, *waiting, staying, last, return_exceptions=True)
    cancelled = [isinstance(result, asyncio.CancelledError) for result in results]
    assert cancelled == [True, True, False, True, True, False]
    assert await noted(database) == ["committing", "last", "waiting1"]


async def test_cancelled_at_any_moment_the_writers_go_on(database: Database) -> None:
    for yields in range(30):
        tasks = [asyncio.create_task(note(database, f"{yields}-{i}")) for i in range(6)]
        for _ in range(yields):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        async with asyncio.timeout(10):
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[1::2] == [None, None, None]
        found = await noted(database)
        assert {f"{yields}-{i}" for i in (1, 3, 5)} <= set(found)


async def test_a_select_that_takes_long_lets_the_loop_go_on(database: Database) -> None:
    slow = select(text("count(*)")).select_from(
        text("(WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 2000000) SELECT x FROM n)")
    )
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0.001)

    beating = asyncio.create_task(beat())
    for write in (False, True):
        beats = 0
        async with UnitOfWork(database, write=write) as uow:
            assert not write or await uow.first_time("before")
            assert (await uow.connection.execute(slow)).scalar_one() == 2_000_000
            await uow.commit()
        assert beats > 5
    beating.cancel()
    assert await noted(database) == ["before"]


async def test_a_long_select_is_stopped_when_its_caller_is_cancelled(database: Database) -> None:
    endless = select(text("count(*)")).select_from(
        text("(WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n)")
    )

    async def ask() -> None:
        async with UnitOfWork(database, write=False) as uow:
            await uow.connection.execute(endless)

    task = asyncio.create_task(ask())
    await asyncio.sleep(0.1)
    task.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await noted(database) == []


CRASH = """
import asyncio, sys
from pathlib import Path
from services.chassis.data import Database, UnitOfWork

async def write(database, writer):
    number = 0
    while True:
        async with UnitOfWork(database) as uow:
            await uow.first_time(f"{writer}-{number}-a")
            await uow.first_time(f"{writer}-{number}-b")
            await uow.commit()
        print(f"{writer}-{number}", flush=True)
        number += 1

async def main():
    database = await Database.open(sys.argv[1], "toy", Path(sys.argv[2]))
    await asyncio.gather(*(write(database, writer) for writer in range(16)))

asyncio.run(main())
"""


async def test_shared_commits_that_were_acknowledged_are_there_after_a_kill(tmp_path: Path, migrations: Path) -> None:
    url = f"sqlite:///{tmp_path}/toy.db"
    command = [sys.executable, "-c", CRASH, url, str(migrations)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=os.getcwd(), text=True)
    assert process.stdout is not None
    told = []
    for line in process.stdout:
        told.append(line.strip())
        if len(told) == 400:
            process.send_signal(signal.SIGKILL)
    process.wait(10)
    process.stdout.close()
    database = await Database.open(url, "toy", migrations)
    found = set(await noted(database))
    await database.close()
    whole = [one for one in told if one.count("-") == 1]
    assert {f"{one}-{half}" for one in whole for half in "ab"} <= found
    assert {one[:-1] for one in found if one.endswith("a")} == {one[:-1] for one in found if one.endswith("b")}
