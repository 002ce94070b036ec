"""The unit of work: one transaction, with what must be true together with it (outbox, inbox, requests)."""

import asyncio
import functools
import hashlib
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from google.protobuf.message import Message
from sqlalchemy import delete, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.clock import now
from services.chassis.data.tables import inbox, outbox, requests
from services.chassis.errors import AlreadyExists, Conflict, Invalid, ModelryError, Unavailable
from services.chassis.events import Event, Record

if TYPE_CHECKING:
    from services.chassis.data.database import Database

WRITES = {"modelry_begin": "BEGIN IMMEDIATE"}
"""Execution options of a connection that is going to write."""

MAX_EVENT_BYTES = 256 * 1024
REQUEST_DAYS = 7.0
CONFLICT_TRIES = 3

P = ParamSpec("P")
T = TypeVar("T")


class UnitOfWork:
    """One transaction. A service subclasses it with its repositories (see repository.py).

        async with uow:
            ...
            uow.emit(event)
            await uow.commit()

    Leaving without `commit` rolls back. It may be entered again afterwards, by one task at a time. No network call,
    transfer or sleep belongs inside: on SQLite it holds the only write lock of the process.
    """

    def __init__(self, database: "Database", *, write: bool = True) -> None:
        self.database = database
        self.write = write
        self._connection: AsyncConnection | None = None
        self._task: asyncio.Task[Any] | None = None
        self._events: list[Event] = []
        self._rows: list[dict[str, Any]] = []

    @property
    def connection(self) -> AsyncConnection:
        """The connection in its transaction, for queries that a repository does not have."""
        if self._connection is None:
            raise RuntimeError("a unit of work is used inside `async with` only")
        return self._connection

    @property
    def locks_rows(self) -> bool:
        """Whether what is loaded for writing must be locked row by row (PostgreSQL)."""
        return self.write and self.database.dialect == "postgresql"

    async def __aenter__(self) -> Self:
        if self._connection is not None:
            raise RuntimeError("this unit of work is open already")
        self._events, self._rows = [], []
        exclusive = self.write and self.database.dialect == "sqlite"
        if exclusive:
            await self._take_lock()
        try:
            self._connection = await self._begin()
        except BaseException as error:
            if exclusive:
                self._give_lock()
            raise translated(error) from error
        return self

    async def _take_lock(self) -> None:
        task = asyncio.current_task()
        if self.database.writing_task is task:
            raise RuntimeError("this task already has a writing unit of work open: it would wait for itself")
        await self.database.writer.acquire()
        self.database.writing_task = task

    def _give_lock(self) -> None:
        self.database.writing_task = None
        self.database.writer.release()

    async def _begin(self) -> AsyncConnection:
        """Open the transaction; one that is cancelled meanwhile is opened to the end, then closed: none leaks."""
        opening = asyncio.ensure_future(self._open())
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            await asyncio.wait([opening])
            if opening.exception() is None:
                await opening.result().close()
            raise

    async def _open(self) -> AsyncConnection:
        connection = self.database.engine.connect()
        try:
            await connection.start()
            if self.database.dialect == "sqlite":
                await connection.execution_options(**(WRITES if self.write else {}))
            else:
                level = "READ COMMITTED" if self.write else "REPEATABLE READ"
                await connection.execution_options(isolation_level=level)
            await connection.begin()
        except BaseException:
            await connection.close()
            raise
        return connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection, self._connection = self.connection, None
        # The connection goes back and the lock is given up also when the caller is cancelled meanwhile.
        closing = asyncio.ensure_future(self._close(connection))
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await asyncio.wait([closing])
            raise
        if error is not None:
            known = translated(error)
            if known is not error:
                raise known from error

    async def _close(self, connection: AsyncConnection) -> None:
        try:
            await connection.close()
        finally:
            if self.write and self.database.dialect == "sqlite":
                self._give_lock()

    def emit(self, event: Event) -> None:
        """Send an event if, and only if, this unit commits; the relay publishes it.

        Raises: Invalid: the event is over 256 KB.
        """
        body = event.body()
        if len(body.encode()) > MAX_EVENT_BYTES:
            raise Invalid(f"A change of {event.resource} {event.resource_id} is over 256 KB and cannot be announced.")
        self._events.append(event)
        self._add_row("event", event.id, event.lane, event.subject, event.headers(), body, event.terminal)

    def put_record(self, record: Record) -> str:
        """Put a record into its KV bucket if, and only if, this unit commits.

        Returns: the outbox id that `OutboxRelay.delivered` can wait for.
        """
        self._add_row("record", record.id, record.lane, record.bucket, {}, record.body(), False)
        return record.id

    def _add_row(
        self, kind: str, event_id: str, lane: str, subject: str, headers: dict[str, str], body: str, terminal: bool
    ) -> None:
        if not self.write:
            raise RuntimeError("a reading unit of work emits nothing")
        self._rows.append(
            {
                "kind": kind,
                "event_id": event_id,
                "lane": lane,
                "subject": subject,
                "headers": headers,
                "body": body,
                "terminal": terminal,
                "create_time": now(),
            }
        )

    async def commit(self) -> None:
        """Make everything of this unit true, durably, and wake the relay and the watchers."""
        if self._rows:
            await self.connection.execute(insert(outbox), self._rows)
        await self.connection.commit()
        events, rows = self._events, self._rows
        self._events, self._rows = [], []
        if rows:
            self.database.committed(events)

    async def first_time(self, event_id: str, consumer: str = "") -> bool:
        """Note an event in the inbox. False: it was handled before, there is nothing to do but to ack."""
        values = {"consumer": consumer, "event_id": event_id, "create_time": now()}
        return await self._insert_new(inbox, values)

    async def claim_request(self, project: str, method: str, request_id: str, digest: str, resource_id: str) -> str:
        """Note a create's request id, or find the resource that its first call made.

        Args:
            digest: `request_digest` of the request.
            resource_id: the new resource's id, to be used if this is the first call.

        Returns: the id of the first call's resource; `resource_id` if this is the first, or has no request id.
        Raises: AlreadyExists: the request id was used with another body.
        """
        if not request_id:
            return resource_id
        key = (requests.c.project == project, requests.c.method == method, requests.c.request_id == request_id)
        oldest = now() - timedelta(days=self.database.request_days)
        await self.connection.execute(delete(requests).where(*key, requests.c.create_time < oldest))
        names = {"project": project, "method": method, "request_id": request_id}
        fresh = {**names, "digest": digest, "resource_id": resource_id, "create_time": now()}
        if await self._insert_new(requests, fresh):
            return resource_id
        row = (await self.connection.execute(select(requests.c.digest, requests.c.resource_id).where(*key))).one()
        if row.digest != digest:
            raise AlreadyExists(
                f"The request id {request_id!r} was used before with another body. Use a new one, or repeat the "
                "first request unchanged.",
                reason="REQUEST_ID_REUSED",
                metadata={"request_id": request_id},
            )
        return str(row.resource_id)

    async def _insert_new(self, table: Any, values: dict[str, Any]) -> bool:
        dialect = postgresql if self.database.dialect == "postgresql" else sqlite
        statement = dialect.insert(table).values(**values).on_conflict_do_nothing()
        # Asked for by RETURNING: psycopg's row count of such an insert is not to be relied on.
        return (await self.connection.execute(statement.returning(table.c.create_time))).first() is not None


def request_digest(message: Message) -> str:
    """SHA-256 of a request without its request id: equal digests mean the same wish."""
    copy = type(message)()
    copy.CopyFrom(message)
    if "request_id" in message.DESCRIPTOR.fields_by_name:
        copy.ClearField("request_id")
    return hashlib.sha256(copy.SerializeToString(deterministic=True)).hexdigest()


def translated(error: BaseException) -> BaseException:
    """A database library's error as one of ours, where a caller can act on it; anything else as it is."""
    if not isinstance(error, DBAPIError) or isinstance(error, ModelryError):
        return error
    state = getattr(error.orig, "sqlstate", None) or ""
    if state in ("40001", "40P01"):
        return Conflict("Two changes met in the database; try again.")
    if isinstance(error, OperationalError) or error.connection_invalidated:
        return Unavailable("The database does not answer now; try again.", reason="DATABASE_UNAVAILABLE")
    return error


def retry_conflicts(operation: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Decorate an operation that gets no etag from its caller: a Conflict makes it run again, three times in all.

    The operation must load what it changes inside itself. A conflict with the caller's own etag is never repeated.
    """

    @functools.wraps(operation)
    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        for attempt in range(1, CONFLICT_TRIES):
            try:
                return await operation(*args, **kwargs)
            except Conflict as conflict:
                if conflict.reason == "ETAG_MISMATCH":
                    raise
                await asyncio.sleep(random.uniform(0.005, 0.02) * attempt)  # noqa: S311
        return await operation(*args, **kwargs)

    return run
