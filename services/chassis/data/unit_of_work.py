"""The unit of work: one transaction, with what must be true together with it (outbox, inbox, requests)."""

import asyncio
import functools
import hashlib
import random
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, ParamSpec, Self, TypeVar

from google.protobuf.message import Message
from sqlalchemy import Executable, Table, bindparam, delete, insert, select
from sqlalchemy.exc import DBAPIError, OperationalError

from services.chassis.clock import now
from services.chassis.data.announced import Announcements
from services.chassis.data.database import Database, Transaction
from services.chassis.data.engines import Connection, Parameters, Result
from services.chassis.data.statements import insert_new
from services.chassis.data.tables import inbox, outbox, requests
from services.chassis.errors import AlreadyExists, Conflict, Invalid, NotFound, Unavailable
from services.chassis.events import Event, Record

MAX_EVENT_BYTES = 256 * 1024
CONFLICT_TRIES = 3
DELETED = "(deleted)"
"""The method of the rows of `requests` that say which resources were deleted; their request id is the resource's id."""

_ADD_TO_OUTBOX = insert(outbox)
_request = (
    requests.c.project == bindparam("of_project"),
    requests.c.method == bindparam("of_method"),
    requests.c.request_id == bindparam("of_request_id"),
)
_FIND_REQUEST = select(requests.c.digest, requests.c.resource_id).where(*_request)
_FORGET_REQUEST = delete(requests).where(*_request, requests.c.create_time < bindparam("oldest"))

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

    def __init__(self, database: Database, *, write: bool = True) -> None:
        self.database = database
        self.write = write
        self._transaction: Transaction | None = None
        self._rows: list[dict[str, Any]] = []
        self.announcements = Announcements()

    @property
    def connection(self) -> Connection:
        """The connection in its transaction, for queries that a repository does not have."""
        return self._open.connection

    @property
    def _open(self) -> Transaction:
        if self._transaction is None:
            raise RuntimeError("a unit of work is used inside `async with` only")
        return self._transaction

    def guarded(self) -> AbstractAsyncContextManager[Any]:
        """Guard a statement that may be refused, so that the unit goes on after an IntegrityError."""
        return self._open.guarded()

    @property
    def locks_rows(self) -> bool:
        """Whether what is loaded for writing must be locked row by row (PostgreSQL)."""
        return self.write and self.database.dialect == "postgresql"

    async def __aenter__(self) -> Self:
        if self._transaction is not None:
            raise RuntimeError("this unit of work is open already")
        self._rows = []
        self.announcements.clear()
        try:
            self._transaction = await self.database.engine.begin(write=self.write)
        except Exception as error:
            _raise_translated(error)
            raise
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        transaction, self._transaction = self._open, None
        try:
            await transaction.close()
        except Exception as failure:
            _raise_translated(failure)
            raise
        if error is not None:
            _raise_translated(error)

    def emit(self, event: Event) -> None:
        """Send an event if, and only if, this unit commits; the relay publishes it.

        Raises: Invalid: the event is over 256 KB.
        """
        body = event.body()
        if len(body.encode()) > MAX_EVENT_BYTES:
            raise Invalid(f"A change of {event.resource} {event.resource_id} is over 256 KB and cannot be announced.")
        self.announcements.tell(event)
        self._add_row("event", event, event.subject, event.headers(), body, event.terminal)

    def put_record(self, record: Record) -> str:
        """Put a record into its KV bucket if, and only if, this unit commits.

        Returns: the outbox id that `OutboxRelay.delivered` can wait for.
        """
        self._add_row("record", record, record.bucket, {}, record.body(), False)
        return record.id

    def _add_row(
        self, kind: str, sent: Event | Record, subject: str, headers: dict[str, str], body: str, terminal: bool
    ) -> None:
        if not self.write:
            raise RuntimeError("a reading unit of work emits nothing")
        self._rows.append(
            {
                "kind": kind,
                "event_id": sent.id,
                "ordering_key": sent.ordering_key,
                "subject": subject,
                "headers": headers,
                "body": body,
                "terminal": terminal,
                "create_time": now(),
            }
        )

    async def commit(self) -> None:
        """Make everything of this unit true, durably, and wake the relay. Nothing can follow it."""
        self.announcements.check()
        rows, self._rows = self._rows, []
        if rows:
            await self.connection.execute(_ADD_TO_OUTBOX, rows)
        await self._open.commit(functools.partial(self._committed, rows))

    def _committed(self, rows: list[dict[str, Any]]) -> None:
        if rows:
            self.database.committed(rows)

    async def first_time(self, event_id: str, consumer: str = "") -> bool:
        """Note an event in the inbox. False: it was handled before, there is nothing to do but to ack."""
        return await self.insert_new(inbox, {"consumer": consumer, "event_id": event_id, "create_time": now()})

    async def claim_request(self, project: str, method: str, request_id: str, digest: str, resource_id: str) -> str:
        """Note a create's request id, or find the resource that its first call made.

        Args:
            digest: `request_digest` of the request.
            resource_id: the new resource's id, to be used if this is the first call.

        Returns: the id of the first call's resource; `resource_id` if this is the first, or has no request id.
        Raises: AlreadyExists: the request id was used with another body. NotFound: what it made was deleted.
        """
        if not request_id:
            return resource_id
        names = {"of_project": project, "of_method": method, "of_request_id": request_id}
        oldest = now() - timedelta(days=self.database.request_days)
        await self.connection.execute(_FORGET_REQUEST, {**names, "oldest": oldest})
        key = {"project": project, "method": method, "request_id": request_id}
        fresh = {**key, "digest": digest, "resource_id": resource_id, "create_time": now()}
        if await self.insert_new(requests, fresh):
            return resource_id
        row = (await self.connection.execute(_FIND_REQUEST, names)).one()
        if row.digest != digest:
            raise AlreadyExists(
                f"The request id {request_id!r} was used before with another body. Use a new one, or repeat the "
                "first request unchanged.",
                reason="REQUEST_ID_REUSED",
                metadata={"request_id": request_id},
            )
        await self.refuse_deleted(row.resource_id)
        return str(row.resource_id)

    async def note_deleted(self, resource_id: str) -> None:
        """Remember that a resource was deleted, for as long as the request that made it may be."""
        key = {"project": "", "method": DELETED, "request_id": resource_id}
        await self.insert_new(requests, {**key, "digest": "", "resource_id": resource_id, "create_time": now()})

    async def refuse_deleted(self, resource_id: str) -> None:
        """Refuse to make a resource that was there and was deleted. Raises: NotFound."""
        names = {"of_project": "", "of_method": DELETED, "of_request_id": resource_id}
        if (await self.connection.execute(_FIND_REQUEST, names)).first() is not None:
            raise NotFound(
                f"What this request made, {resource_id!r}, was deleted. To make it again, use a new request id.",
                reason="RESOURCE_DELETED",
                metadata={"name": resource_id},
            )

    async def insert_new(self, table: Table, values: dict[str, Any]) -> bool:
        """Insert a row unless there is one with its key. Returns whether it was inserted."""
        statement = insert_new(table, self.database.dialect)
        return (await self.connection.execute(statement, values)).first() is not None


async def fetch(database: Database, query: Executable, parameters: Parameters = None) -> Result:
    """Return the result of one query, in a unit of work of its own."""
    async with UnitOfWork(database, write=False) as uow:
        return await uow.connection.execute(query, parameters)


async def execute(database: Database, statement: Executable, parameters: Parameters = None) -> Result:
    """Execute one statement that writes, in a unit of work of its own."""
    async with UnitOfWork(database) as uow:
        result = await uow.connection.execute(statement, parameters)
        await uow.commit()
    return result


def request_digest(message: Message) -> str:
    """Return the SHA-256 of a request without its request id: equal digests mean the same request."""
    copy = type(message)()
    copy.CopyFrom(message)
    if "request_id" in message.DESCRIPTOR.fields_by_name:
        copy.ClearField("request_id")
    return hashlib.sha256(copy.SerializeToString(deterministic=True)).hexdigest()


def _raise_translated(error: BaseException) -> None:
    """Raise a database library's error as one of ours, where a caller can act on it."""
    if isinstance(error, sqlite3.OperationalError):  # what no statement of a caller met: the turn, the commit
        raise _unavailable() from error
    if not isinstance(error, DBAPIError):
        return
    state = getattr(error.orig, "sqlstate", None) or ""
    if state in ("40001", "40P01"):
        raise Conflict("Two changes met in the database; try again.") from error
    if isinstance(error, OperationalError) or error.connection_invalidated:
        raise _unavailable() from error


def _unavailable() -> Unavailable:
    return Unavailable("The database does not answer now; try again.", reason="DATABASE_UNAVAILABLE")


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
