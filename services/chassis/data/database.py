"""A service's database: opened, migrated, and who is told of its commits. (The worked example is in repository.py.)

SQLite by default, PostgreSQL by URL; one code for both. On SQLite units of work that write have turns at one
connection (`BEGIN IMMEDIATE`), one that reads is a plain `BEGIN`; left as it comes, the driver opens no transaction at
SELECT and loses updates. One process owns a file. On PostgreSQL each service has a schema of its own name, so that
all may be given the same URL, and what a writing unit loads is locked until it ends.
"""

import asyncio
import fcntl
import logging
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, make_url, text
from sqlalchemy.engine import URL

from services.chassis.data import postgres, sqlite
from services.chassis.data.migration import current_revision, pending, upgrade
from services.chassis.settings import refuse_start

REQUEST_DAYS = 7.0

Engine = sqlite.SqliteEngine | postgres.PostgresEngine
Transaction = sqlite.SqliteReading | sqlite.SqliteWriting | postgres.PostgresTransaction
"""From `Engine.begin` on; without `commit`, `close` rolls it back."""
CommitHook = Callable[[Sequence[Mapping[str, Any]]], None]
"""Hears of outbox rows; it must return at once."""

_log = logging.getLogger(__name__)


class Database:
    """An open database. Make it with `open`; hand it to units of work, the relay and consumers."""

    def __init__(self, engine: Engine, service: str, lock: int | None, request_days: float) -> None:
        self.engine, self.service, self.request_days = engine, service, request_days
        self._lock = lock
        self._commit_hooks: list[CommitHook] = []

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.engine.dialect

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
        parsed = _parse(url)
        on_file = parsed.drivername == sqlite.DIALECT
        lock = _own(Path(parsed.database or "")) if on_file else None
        engine = sqlite.SqliteEngine(parsed) if on_file else postgres.PostgresEngine(parsed, service)
        database = cls(engine, service, lock, request_days)
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
        transaction = await self.engine.begin(write=True)
        try:
            await transaction.connection.run_sync(_upgrade_alone, self.service, migrations)
            await transaction.commit(lambda: _log.info("schema of %s is now %s", self.service, todo[-1]))
        finally:
            await transaction.close()

    def on_commit(self, hook: CommitHook) -> None:
        """Call a function with the outbox rows of each unit that wrote some, once they are on disk."""
        self._commit_hooks.append(hook)

    def committed(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Tell the relay what a unit of work has just made true."""
        for hook in self._commit_hooks:
            hook(rows)

    async def close(self) -> None:
        """Close all connections and give the file up."""
        await self.engine.dispose()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except Exception as error:
        refuse_start(f"database_url is not a URL: {error}")
    families = {"sqlite": sqlite.DIALECT, "postgresql": postgres.DIALECT, "postgres": postgres.DIALECT}
    family = families.get(parsed.drivername.split("+")[0])
    if family is None or (family == sqlite.DIALECT and parsed.database in (None, "", ":memory:")):
        refuse_start(f"database_url {parsed.render_as_string()} is neither sqlite:///FILE nor postgresql://…")
    return parsed.set(drivername=family)


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
