"""SQLite behind a unit of work: statements run on the event loop, commits in a thread.

A thread for each statement costs many times the statement. So a statement runs at once where it is asked for; a
SELECT that takes long is stopped and runs again in a thread. What writes goes through `Writer` (sqlite_writer.py). A
reader's snapshot is what is on disk; it waits for nobody. docs/decisions/database.md says why this is safe.
"""

import asyncio
import math
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, TypeVar, cast

import sqlalchemy
from sqlalchemy import Executable, NullPool, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError

from services.chassis.data.engines import Parameters, Result, until_done
from services.chassis.data.sqlite_writer import Writer
from services.chassis.errors import Unavailable

DIALECT = "sqlite"
LOOP_SECONDS = 0.005
"""How long a SELECT may keep the event loop, before it goes to a thread."""

_STEPS_BETWEEN_CHECKS = 10_000
_IDLE_READERS = 4
_READER_BUSY_MS = 250  # only a foreign process can make a reader wait, and the loop waits with it

T = TypeVar("T")


class _CompleteCursor(sqlite3.Cursor):
    """A cursor that reads all rows when it executes: nothing stays open, and all work is done inside of the call."""

    _rows: list[Any]

    def execute(self, sql: str, parameters: Any = (), /) -> "_CompleteCursor":
        super().execute(sql, parameters)
        self._rows = super().fetchall()
        self._rows.reverse()
        return self

    def executemany(self, sql: str, parameters: Any, /) -> "_CompleteCursor":
        super().executemany(sql, parameters)
        self._rows = []
        return self

    def fetchone(self) -> Any:
        return self._rows.pop() if self._rows else None

    def fetchmany(self, size: int | None = 1) -> list[Any]:
        count = min(size or 1, len(self._rows))
        return [self._rows.pop() for _ in range(count)]

    def fetchall(self) -> list[Any]:
        rows, self._rows = self._rows[::-1], []
        return rows


class _Raw(sqlite3.Connection):
    def cursor(self, factory: Any = _CompleteCursor) -> Any:
        return super().cursor(factory)


class DirectConnection:
    """A connection whose statements run on the event loop."""

    def __init__(self, connection: sqlalchemy.Connection) -> None:
        self.sync = connection
        self.sync.begin()  # for SQLAlchemy there is one transaction for ever; ours are opened below it
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        self.raw = raw
        self.raw.set_progress_handler(self._takes_long, _STEPS_BETWEEN_CHECKS)
        self._deadline = math.inf

    def _takes_long(self) -> bool:
        return time.perf_counter() > self._deadline

    async def execute(self, statement: Executable, parameters: Parameters = None) -> Result:
        """Execute a statement. Raises: Unavailable: an earlier one failed so badly that the transaction is gone."""
        if not self.raw.in_transaction:
            raise Unavailable("The database has rolled this change back; try again.", reason="DATABASE_UNAVAILABLE")
        if not statement.is_select:  # stopping what writes would roll the transaction back
            return self.sync.execute(statement, parameters)
        self._deadline = time.perf_counter() + LOOP_SECONDS
        try:
            return self.sync.execute(statement, parameters)
        except OperationalError as error:
            if getattr(error.orig, "sqlite_errorcode", 0) != sqlite3.SQLITE_INTERRUPT:
                raise
        finally:
            self._deadline = math.inf
        return await self.run_sync(sqlalchemy.Connection.execute, statement, parameters)

    async def run_sync(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function with the synchronous connection in a thread; a caller that is cancelled waits for its end."""
        work = asyncio.ensure_future(asyncio.to_thread(_outcome, function, self.sync, *args))
        try:
            result, error = await asyncio.shield(work)
        except asyncio.CancelledError:
            self.raw.interrupt()
            await until_done(work)
            raise
        if error is not None:
            raise error
        return cast(T, result)

    def close(self) -> None:
        self.sync.close()


def _outcome(function: Callable[..., T], *args: Any) -> tuple[T | None, BaseException | None]:
    """Return what a function returned or raised. A future would let a SystemExit end the event loop."""
    try:
        return function(*args), None
    except BaseException as error:
        return None, error


class SqliteEngine:
    """A database file: a few connections that read, and the one that writes."""

    dialect = DIALECT

    def __init__(self, url: URL) -> None:
        arguments = {"isolation_level": None, "check_same_thread": False, "factory": _Raw}
        self._engine = create_engine(url.set(drivername="sqlite+pysqlite"), poolclass=NullPool, connect_args=arguments)
        event.listen(self._engine, "connect", _prepare)
        self._idle: list[DirectConnection] = []
        self._writer = Writer(self._open)

    def _open(self) -> DirectConnection:
        return DirectConnection(self._engine.connect())

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[DirectConnection]:
        """Open a connection outside of units of work, for the schema."""
        connection = self._open()
        try:
            yield connection
        finally:
            connection.close()

    async def begin(self, *, write: bool) -> "SqliteReading | SqliteWriting":
        """Open a transaction; one that writes waits for its turn."""
        if write:
            return SqliteWriting(self._writer, await self._writer.begin())
        connection = self._idle.pop() if self._idle else self._open()
        connection.raw.execute("BEGIN")
        return SqliteReading(connection, self._give_back)

    def _give_back(self, connection: DirectConnection) -> None:
        if connection.raw.in_transaction:
            connection.raw.execute("ROLLBACK")
        if len(self._idle) < _IDLE_READERS:
            self._idle.append(connection)
        else:
            connection.close()

    async def dispose(self) -> None:
        """Close all connections; the last one to go writes the log back into the file."""
        await self._writer.close()
        while self._idle:
            await asyncio.to_thread(self._idle.pop().close)


class SqliteReading:
    """A snapshot."""

    def __init__(self, connection: DirectConnection, give_back: Callable[[DirectConnection], None]) -> None:
        self.connection = connection
        self._give_back = give_back

    def guarded(self) -> AbstractAsyncContextManager[Any]:
        """Do nothing: SQLite undoes a refused statement alone."""
        return nullcontext()

    async def commit(self, then: Callable[[], None]) -> None:
        """Do nothing: there is nothing to make durable."""
        then()

    async def close(self) -> None:
        """Give the connection back."""
        self._give_back(self.connection)


class SqliteWriting:
    """A unit's turn at the writing connection; after `commit` it is over."""

    def __init__(self, writer: Writer[DirectConnection], connection: DirectConnection) -> None:
        self._writer = writer
        self._connection: DirectConnection | None = connection

    @property
    def connection(self) -> DirectConnection:
        """What statements are executed on."""
        if self._connection is None:
            raise RuntimeError("this unit of work is committed: nothing more can be done in it")
        return self._connection

    def guarded(self) -> AbstractAsyncContextManager[Any]:
        """Do nothing: SQLite undoes a refused statement alone."""
        return nullcontext()

    async def commit(self, then: Callable[[], None]) -> None:
        """Make everything durable, then call `then`, also when the caller is cancelled meanwhile."""
        self._connection = None
        await self._writer.commit(then)

    async def close(self) -> None:
        """Roll back what was not committed."""
        if self._connection is not None:
            self._connection = None
            await self._writer.leave()


def _prepare(connection: Any, record: Any) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_READER_BUSY_MS}"):
        connection.execute(f"PRAGMA {pragma}")
