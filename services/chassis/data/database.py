"""A service's database, and the unit of work in which it is read and written. (The worked example is in repository.py.)

SQLite by default, PostgreSQL by URL; one code for both. On SQLite a unit of work that writes is `BEGIN IMMEDIATE`
under one lock per process, one that reads is a plain `BEGIN`; left as it comes, the driver opens no transaction at
SELECT and loses updates. One process owns a file. On PostgreSQL each service has a schema of its own name, so that
all may be given the same URL, and what a writing unit loads is locked until it ends.
"""

import asyncio
import fcntl
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from services.chassis.data.migration import current_revision, pending, upgrade
from services.chassis.data.tables import chassis_metadata
from services.chassis.data.unit_of_work import REQUEST_DAYS, WRITES, UnitOfWork, request_digest, retry_conflicts
from services.chassis.events import Event
from services.chassis.settings import refuse_start

__all__ = ["Database", "UnitOfWork", "chassis_metadata", "request_digest", "retry_conflicts"]

_logger = logging.getLogger(__name__)


class Database:
    """An open database. Make it with `open`; hand it to units of work, the relay and consumers."""

    def __init__(self, engine: AsyncEngine, service: str, lock: int | None) -> None:
        self.engine = engine
        self.service = service
        self.request_days = REQUEST_DAYS
        self.writer = asyncio.Lock()
        self.writing_task: asyncio.Task[Any] | None = None
        self._lock = lock
        self._commit_hooks: list[Callable[[Sequence[Event]], None]] = []

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.engine.dialect.name

    @classmethod
    async def open(cls, url: str, service: str, migrations: Path, request_days: float = REQUEST_DAYS) -> Self:
        """Open a service's database and bring its schema up to date.

        Args:
            url: `sqlite:///PATH` or `postgresql://USER:PASSWORD@HOST/DATABASE`.
            migrations: the service's folder of that name.
            request_days: how long a create's request id is remembered.

        Raises: StartError: another process owns the file, the schema is newer than the code, the URL is wrong or the
            server does not answer.
        """
        parsed = _driver_url(url)
        lock = _own(Path(parsed.database or "")) if parsed.drivername.startswith("sqlite") else None
        database = cls(_engine(parsed, service), service, lock)
        database.request_days = request_days
        try:
            await database._migrate(migrations, parsed)
        except BaseException as error:
            await database.close()
            if isinstance(error, OSError) or type(error).__name__ in ("OperationalError", "InterfaceError"):
                reason = str(getattr(error, "orig", error)).split("\n")[0]
                refuse_start(f"The database of {service} ({parsed.render_as_string()}) cannot be opened: {reason}")
            raise
        return database

    async def _migrate(self, migrations: Path, url: URL) -> None:
        async with self.engine.connect() as connection:
            todo = await connection.run_sync(pending, self.service, migrations)
            revision = await connection.run_sync(current_revision)
        if not todo:
            return
        if revision and self.dialect == "sqlite":
            await asyncio.to_thread(_copy, Path(url.database or ""), revision)
        async with self.engine.connect() as connection:
            await connection.execution_options(**WRITES)
            await connection.run_sync(_upgrade_alone, self.service, migrations)
            await connection.commit()
        _logger.info("schema of %s is now %s", self.service, todo[-1])

    def on_commit(self, hook: Callable[[Sequence[Event]], None]) -> None:
        """Call a function with the events of each commit that wrote outbox rows. It must return at once."""
        self._commit_hooks.append(hook)

    def committed(self, events: Sequence[Event]) -> None:
        """Tell the relay and the watchers what a unit of work has just made true."""
        for hook in self._commit_hooks:
            hook(events)

    async def close(self) -> None:
        """Close all connections and give the file up."""
        await self.engine.dispose()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _driver_url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except Exception as error:
        refuse_start(f"database_url is not a URL: {error}")
    drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
    family = parsed.drivername.split("+")[0]
    if family not in drivers or (family == "sqlite" and parsed.database in (None, "", ":memory:")):
        refuse_start(f"database_url {parsed.render_as_string()} is neither sqlite:///FILE nor postgresql://…")
    return parsed.set(drivername=drivers[family])


def _own(path: Path) -> int:
    """Lock the file for this process; the lock falls with the process, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(lock, 20, 0).decode() or "unknown"
        os.close(lock)
        refuse_start(f"{path} is in use by another process (pid {owner}). One process owns a database file.")
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # for its owner's eyes only
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def _copy(path: Path, revision: str) -> None:
    """Keep a whole copy of the file as it was before a migration, beside it."""
    target = path.with_name(f"{path.name}.before-{revision}.copy")
    target.unlink(missing_ok=True)
    with sqlite3.connect(path) as source, sqlite3.connect(target) as copy:
        source.backup(copy)
    copy.close()
    source.close()
    os.chmod(target, 0o600)


def _upgrade_alone(connection: Connection, service: str, migrations: Path) -> None:
    """Upgrade while nobody else does: SQLite by its write lock, PostgreSQL by an advisory one for the transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"modelry.{service}"})
        if not pending(connection, service, migrations):
            return
    upgrade(connection, migrations)


def _engine(url: URL, service: str) -> AsyncEngine:
    if url.drivername.startswith("sqlite"):
        engine = create_async_engine(url, pool_size=4, max_overflow=12)
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine
    arguments = {"connect_timeout": 10, "options": f"-c search_path={service}"}
    engine = create_async_engine(url, pool_size=4, max_overflow=12, pool_pre_ping=True, connect_args=arguments)
    event.listen(engine.sync_engine, "first_connect", _make_schema(service), insert=True)
    return engine


def _prepare_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions are opened by _begin_sqlite alone
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("modelry_begin", "BEGIN"))


def _make_schema(service: str) -> Callable[[Any, Any], None]:
    def make(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f'CREATE SCHEMA IF NOT EXISTS "{service}"')
        cursor.close()
        connection.commit()

    return make
