"""The database file: locks, migrations, copies, crashes; and many writers at once."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from services.chassis.data import Database, UnitOfWork
from services.chassis.errors import Unavailable
from services.chassis.settings import StartError

pytestmark = pytest.mark.integration

SECOND = """
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    op.create_table("counters", sa.Column("id", sa.Text(), primary_key=True), sa.Column("n", sa.BigInteger()))
    {more}
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/data/toy.db"


@pytest.fixture
def counters(migrations: Path) -> Path:
    (migrations / "versions" / "0002_counters.py").write_text(SECOND.format(more=""))
    return migrations


async def test_a_second_process_is_refused_with_a_clear_word(url: str, migrations: Path) -> None:
    first = await Database.open(url, "toy", migrations)
    with pytest.raises(StartError, match=f"in use by another process .pid {os.getpid()}"):
        await Database.open(url, "toy", migrations)
    await first.close()
    await (await Database.open(url, "toy", migrations)).close()


async def test_an_up_to_date_database_opens_fast(url: str, migrations: Path) -> None:
    await (await Database.open(url, "toy", migrations)).close()
    began = time.monotonic()
    database = await Database.open(url, "toy", migrations)
    assert time.monotonic() - began < 0.3
    await database.close()


async def test_the_file_is_copied_before_a_migration(url: str, migrations: Path, tmp_path: Path) -> None:
    database = await Database.open(url, "toy", migrations)
    async with UnitOfWork(database) as uow:
        assert await uow.first_time("evt_1")
        await uow.commit()
    await database.close()
    (migrations / "versions" / "0002_counters.py").write_text(SECOND.format(more=""))
    database = await Database.open(url, "toy", migrations)
    await database.close()
    copy = sqlite3.connect(tmp_path / "data" / "toy.db.before-0001.copy")
    assert copy.execute("SELECT event_id FROM inbox").fetchall() == [("evt_1",)]
    assert copy.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
    copy.close()


async def test_a_newer_schema_than_the_code_stops_the_start(url: str, counters: Path) -> None:
    await (await Database.open(url, "toy", counters)).close()
    (counters / "versions" / "0002_counters.py").unlink()
    with pytest.raises(StartError, match=r"schema 0002, newer than this version of Modelry knows \(0001\)"):
        await Database.open(url, "toy", counters)


async def test_a_migration_that_fails_leaves_the_database_as_it_was(url: str, migrations: Path, tmp_path: Path) -> None:
    await (await Database.open(url, "toy", migrations)).close()
    step = migrations / "versions" / "0002_counters.py"
    step.write_text(SECOND.format(more='op.execute("SELECT no_such_function()")'))
    with pytest.raises(StartError):
        await Database.open(url, "toy", migrations)
    file = sqlite3.connect(tmp_path / "data" / "toy.db")
    assert file.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
    assert file.execute("SELECT name FROM sqlite_master WHERE name = 'counters'").fetchall() == []
    file.close()
    step.write_text(SECOND.format(more=""))
    await (await Database.open(url, "toy", migrations)).close()


@pytest.mark.parametrize("wrong", ["mysql://x/y", "sqlite://", "nonsense", "postgresql://127.0.0.1:1/none"])
async def test_a_wrong_url_stops_the_start(wrong: str, migrations: Path) -> None:
    with pytest.raises(StartError, match=r"(?i)database"):
        await Database.open(wrong, "toy", migrations)


async def test_20_writers_on_one_row_20_applied(url: str, counters: Path) -> None:
    """Plain read, then write, as an operation does; 200 times over."""
    database = await Database.open(url, "toy", counters)
    async with UnitOfWork(database) as uow:
        await uow.connection.execute(text("INSERT INTO counters VALUES ('a', 0)"))
        await uow.commit()

    async def add() -> None:
        for _ in range(10):
            async with UnitOfWork(database) as uow:
                value = (await uow.connection.execute(text("SELECT n FROM counters"))).scalar_one()
                await asyncio.sleep(0)
                await uow.connection.execute(text("UPDATE counters SET n = :n"), {"n": value + 1})
                await uow.commit()

    async def look() -> None:
        for _ in range(50):
            async with UnitOfWork(database, write=False) as uow:
                await uow.connection.execute(text("SELECT n FROM counters"))

    await asyncio.gather(*(add() for _ in range(20)), *(look() for _ in range(5)))
    async with UnitOfWork(database, write=False) as uow:
        assert (await uow.connection.execute(text("SELECT n FROM counters"))).scalar_one() == 200
    await database.close()


async def test_a_task_that_would_wait_for_itself_is_told_so(url: str, migrations: Path) -> None:
    database = await Database.open(url, "toy", migrations)
    async with UnitOfWork(database):
        with pytest.raises(RuntimeError, match="wait for itself"):
            async with UnitOfWork(database):
                pass
    await database.close()


async def test_a_locked_file_is_unavailable_not_a_traceback(url: str, migrations: Path, tmp_path: Path) -> None:
    database = await Database.open(url, "toy", migrations)
    async with UnitOfWork(database) as uow:  # the pool's connection, told not to wait
        await uow.connection.execute(text("PRAGMA busy_timeout=10"))
    intruder = sqlite3.connect(tmp_path / "data" / "toy.db", isolation_level=None)
    intruder.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable):
        async with UnitOfWork(database):
            pass
    intruder.close()
    async with UnitOfWork(database) as uow:
        await uow.commit()
    await database.close()


CRASH = """
import asyncio, sys
from pathlib import Path
from services.chassis.data import Database, UnitOfWork

async def main():
    database = await Database.open(sys.argv[1], "toy", Path(sys.argv[2]))
    number = 0
    while True:
        async with UnitOfWork(database) as uow:
            await uow.first_time(f"evt_{number}")
            await uow.commit()
        print(number, flush=True)
        number += 1

asyncio.run(main())
"""


async def test_what_was_acknowledged_is_there_after_a_kill(url: str, migrations: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", CRASH, url, str(migrations)], stdout=subprocess.PIPE, cwd=os.getcwd(), text=True
    )
    assert process.stdout is not None
    last = -1
    for line in process.stdout:
        last = int(line)
        if last == 50:
            process.send_signal(signal.SIGKILL)
            break
    last = max([last, *(int(line) for line in process.stdout)])
    process.wait(10)
    process.stdout.close()
    database = await Database.open(url, "toy", migrations)
    async with UnitOfWork(database, write=False) as uow:
        count = (await uow.connection.execute(text("SELECT count(*) FROM inbox"))).scalar_one()
    assert count in (last + 1, last + 2)
    await database.close()


async def test_two_services_share_a_postgresql_database(postgres_url: str, migrations: Path) -> None:
    opened = [await Database.open(postgres_url, name, migrations) for name in ("training", "registry")]
    for database in opened:
        async with UnitOfWork(database) as uow:
            assert await uow.first_time("evt_1")
            await uow.commit()
    for database in opened:
        await database.close()
