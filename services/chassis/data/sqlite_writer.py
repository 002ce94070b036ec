"""The one writing connection of a SQLite file: units of work take turns, and units in a row share a commit.

A turn is a savepoint inside of a transaction that several units share. A unit that fails rolls back to its savepoint
alone. When no unit waits for a turn, or enough have had one, a thread commits: one fsync for all of them. Nobody is
told that a unit is done, or refused because of what an earlier one wrote, before that commit is on disk; if it fails,
all of its units fail.
"""

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from services.chassis.errors import Unavailable

UNITS_AT_ONCE = 32
"""How many units share a commit at most."""

BUSY_SECONDS = 5.0
_BUSY_WAIT_SECONDS = 0.01


class _Connection(Protocol):
    @property
    def raw(self) -> sqlite3.Connection: ...

    def close(self) -> None: ...


C = TypeVar("C", bound=_Connection)


@dataclass
class _Group:
    """Units that share a transaction. `durable` ends with their commit, or with the error that it met."""

    durable: asyncio.Future[None]
    units: int = 0


class Writer(Generic[C]):
    """Give turns at the writing connection, in the order in which they were asked for."""

    def __init__(self, connect: Callable[[], C]) -> None:
        self._connect = connect
        self._open: C | None = None
        self._busy = False
        self._queue: deque[asyncio.Future[None]] = deque()
        self._owner: asyncio.Task[Any] | None = None
        self._group: _Group | None = None
        self._thread = ThreadPoolExecutor(1, "sqlite-commit")

    async def begin(self) -> C:
        """Wait for a turn. It ends with `commit` or `leave`."""
        task = asyncio.current_task()
        if self._owner is task:
            raise RuntimeError("this task already has a writing unit of work open: it would wait for itself")
        await self._take_turn()
        try:
            connection = await self._enter()
        except BaseException:
            self._pass_on()
            raise
        self._owner = task
        return connection

    async def _take_turn(self) -> None:
        if not self._busy:
            self._busy = True
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the turn came at the same moment
                self._pass_on()
            raise

    async def _enter(self) -> C:
        if self._open is None:
            self._open = self._connect()
            self._open.raw.execute("PRAGMA busy_timeout=0")  # waiting is done below, without keeping the loop
        if self._group is None:
            await self._begin_immediate(self._open.raw)
            self._group = _Group(asyncio.get_running_loop().create_future())
        self._open.raw.execute("SAVEPOINT unit")
        return self._open

    async def _begin_immediate(self, raw: sqlite3.Connection) -> None:
        """Take the file's write lock. Only a foreign process can have it."""
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                raw.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(_BUSY_WAIT_SECONDS)

    async def commit(self, then: Callable[[], None]) -> None:
        """End the turn; return when what was done in it is on disk and `then` was called.

        A caller that is cancelled meanwhile changes nothing about that.
        """
        group = self._end_turn("RELEASE unit")
        group.durable.add_done_callback(lambda durable: None if durable.exception() else then())
        group.units += 1
        self._pass_on()
        await asyncio.shield(group.durable)

    async def leave(self) -> None:
        """End the turn and undo what was done in it."""
        group = self._end_turn("ROLLBACK TO unit", "RELEASE unit")
        shared = group.units > 0
        self._pass_on()
        if shared:  # what this unit saw of the others must be true before anybody hears of it
            await asyncio.shield(group.durable)

    def _end_turn(self, *statements: str) -> _Group:
        assert self._open is not None and self._group is not None
        self._owner = None
        if self._open.raw.in_transaction:  # otherwise an error has rolled everything back; `_pass_on` says so
            for statement in statements:
                self._open.raw.execute(statement)
        return self._group

    def _pass_on(self) -> None:
        """Give the turn to the unit that waits longest; to the commit, if none waits or enough share it already."""
        group = self._group
        if group is not None and self._open is not None and not self._open.raw.in_transaction:
            self._fail(group, Unavailable("The database has rolled this change back; try again."))
            group = None
        turn = self._next_turn() if group is None or group.units < UNITS_AT_ONCE else None
        if turn is not None:
            turn.set_result(None)
        elif group is not None:
            self._finish(group)
        else:
            self._busy = False

    def _next_turn(self) -> asyncio.Future[None] | None:
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                return turn
        return None

    def _finish(self, group: _Group) -> None:
        """Commit what the group's units did, in the thread, which has the turn until then."""
        assert self._open is not None
        if group.units:
            work = asyncio.get_running_loop().run_in_executor(self._thread, self._open.raw.execute, "COMMIT")
            work.add_done_callback(lambda done: self._finished(group, done))
        else:
            self._open.raw.execute("ROLLBACK")
            self._group = None
            self._busy = False

    def _finished(self, group: _Group, work: asyncio.Future[Any]) -> None:
        error = asyncio.CancelledError() if work.cancelled() else work.exception()
        if error is None:
            self._group = None
            group.durable.set_result(None)
        else:
            self._fail(group, error)
        self._pass_on()

    def _fail(self, group: _Group, error: BaseException) -> None:
        """Fail all of the group. Its connection may be in any state, so that the next unit gets another."""
        connection, self._open, self._group = self._open, None, None
        if group.units:
            group.durable.set_exception(error)
        if connection is not None:
            connection.close()

    async def close(self) -> None:
        """Wait for a commit on its way, and close the connection."""
        if self._group is not None and self._group.units:
            await asyncio.wait([self._group.durable], timeout=BUSY_SECONDS)
        await asyncio.to_thread(self._thread.shutdown)
        if self._open is not None:
            await asyncio.to_thread(self._open.close)
            self._open = None
