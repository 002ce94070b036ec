"""The outbox relay: publishes what units of work emitted, once each, in order per resource.

A row is marked as sent for the first time before it is published and as sent after the acknowledgement. A relay that
dies between the two leaves a row that was perhaps stored: it is published again only after the last message of its
exact subject was read and is not it, because the server's own check for duplicates forgets after its window.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Protocol

from nats.js.errors import APIError, NotFoundError
from sqlalchemy import bindparam, func, select, update

from services.chassis.bus.connection import Bus, Session, retry_delay
from services.chassis.bus.kv import KvWriter, parse_record
from services.chassis.bus.streams import EVENTS_STREAM
from services.chassis.clock import now
from services.chassis.data import Database, UnitOfWork, keep_dead_letter, outbox, sweep
from services.chassis.errors import Unavailable
from services.chassis.events import MESSAGE_ID, Event

ROUND_ROWS = 512
LANES_AT_ONCE = 64
IDLE_SECONDS = 1.0
SWEEP_SECONDS = 3600.0

_EXPECTED_LAST = "Nats-Expected-Last-Subject-Sequence"
_WRONG_LAST_SEQUENCE = 10071
_FULL = (10077, 10076, 10122)  # maximum bytes, maximum messages, maximum per subject

_logger = logging.getLogger(__name__)


class RelaySettings(Protocol):
    """What the relay reads of a process's settings."""

    retry_min_seconds: float
    retry_max_seconds: float
    resend_seconds: float


class OutboxRelay:
    """Publishes a database's outbox. One per database."""

    def __init__(self, database: Database, bus: Bus, settings: RelaySettings) -> None:
        self._database, self._bus, self._settings = database, bus, settings
        self._kicks = {kind: asyncio.Event() for kind in ("event", "record")}
        self._problems: dict[str, str] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting: dict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._writers: dict[str, KvWriter] = {}
        self._checked = 0  # the connection on which what was sent lately has been looked for
        self.refused = 0  # terminal events that a different one had forestalled
        database.on_commit(self._on_commit)

    async def start(self) -> None:
        """Begin to publish, as soon as there is a connection. Events and records do not wait for each other."""
        self._tasks = [asyncio.create_task(self._pump(kind), name=f"relay-{kind}") for kind in self._kicks]
        self._tasks.append(asyncio.create_task(self._sweep(), name="relay-sweep"))

    async def stop(self) -> None:
        """Stop publishing; what is unsent stays in the outbox."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def missing(self) -> list[str]:
        """What readiness must name: nothing, or why the outbox waits."""
        return [f"outbox: {problem}" for problem in self._problems.values()]

    def kick(self) -> None:
        """There is something to publish."""
        for event in self._kicks.values():
            event.set()

    def _on_commit(self, events: Sequence[Event]) -> None:
        self.kick()

    async def backlog(self) -> int:
        """How many rows are not sent yet."""
        async with UnitOfWork(self._database, write=False) as uow:
            query = select(func.count()).select_from(outbox).where(outbox.c.sent_time.is_(None))
            return int((await uow.connection.execute(query)).scalar_one())

    async def delivered(self, event_id: str, timeout: float) -> bool:
        """Whether an outbox row (`Event.id`, or what `put_record` returned) is acknowledged, waiting a little for it.

        Call it after the commit.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[event_id].add(future)
        try:
            if await self._is_sent(event_id):
                return True
            await asyncio.wait_for(future, timeout)
        except TimeoutError:
            return False
        finally:
            self._waiting[event_id].discard(future)
            if not self._waiting[event_id]:
                del self._waiting[event_id]
        return True

    async def _is_sent(self, event_id: str) -> bool:
        async with UnitOfWork(self._database, write=False) as uow:
            query = select(outbox.c.sent_time).where(outbox.c.event_id == event_id)
            return (await uow.connection.execute(query)).scalar_one_or_none() is not None

    async def _pump(self, kind: str) -> None:
        tries = 0
        while True:
            session = await self._bus.session()
            self._kicks[kind].clear()
            try:
                if kind == "event":
                    await self._look_for_lost(session)
                sent, failed = await self._round(session, kind)
                if not failed:
                    self._problems.pop(kind, None)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # an edge: the outbox is the buffer, and tries again
                sent, failed = 0, True
                self._problem(kind, error)
            tries = tries + 1 if failed else 0
            if failed:
                await self._wait(kind, retry_delay(tries, self._settings.retry_min_seconds, self._longest))
            elif not sent:
                await self._wait(kind, IDLE_SECONDS)

    @property
    def _longest(self) -> float:
        return self._settings.retry_max_seconds

    async def _wait(self, kind: str, seconds: float) -> None:
        """Wait, or until there is something new; but after a failure not less than the shortest delay."""
        if self._problems.get(kind):
            await asyncio.sleep(min(seconds, self._settings.retry_min_seconds))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._kicks[kind].wait(), seconds)

    def _problem(self, kind: str, error: Exception) -> None:
        words = f"{EVENTS_STREAM} is full" if isinstance(error, APIError) and error.err_code in _FULL else str(error)
        if self._problems.get(kind) != words:
            _logger.warning("the outbox waits: %s", words, exc_info=not isinstance(error, (Unavailable, APIError)))
        self._problems[kind] = words

    async def _round(self, session: Session, kind: str) -> tuple[int, bool]:
        """Send what is unsent, oldest first, lanes in parallel. Returns how many were sent, and whether any failed."""
        rows = await self._take(kind)
        lanes: dict[str, list[Any]] = defaultdict(list)
        for row in rows:
            lanes[row.lane].append(row)
        done: list[tuple[Any, int | None]] = []
        gate = asyncio.Semaphore(LANES_AT_ONCE)
        try:
            results = await asyncio.gather(*(self._lane(session, lane, gate, done) for lane in lanes.values()))
        finally:
            await asyncio.shield(self._mark_sent(done))
        return len(done), not all(results)

    async def _take(self, kind: str) -> Sequence[Any]:
        """The unsent rows, as they were before; those that go out for the first time are marked so, durably."""
        query = select(outbox).where(outbox.c.sent_time.is_(None), outbox.c.kind == kind)
        async with UnitOfWork(self._database, write=False) as reading:
            rows = (await reading.connection.execute(query.order_by(outbox.c.id).limit(ROUND_ROWS))).all()
        fresh = [row.id for row in rows if row.first_sent_time is None]
        if fresh:
            async with UnitOfWork(self._database) as uow:
                marking = update(outbox).where(outbox.c.id.in_(fresh)).values(first_sent_time=now())
                await uow.connection.execute(marking)
                await uow.commit()
        return rows

    async def _lane(
        self, session: Session, rows: list[Any], gate: asyncio.Semaphore, done: list[tuple[Any, int | None]]
    ) -> bool:
        """Send one lane's rows, each after the acknowledgement of the one before."""
        async with gate:
            for row in rows:
                try:
                    sequence = await self._send(session, row)
                except (Unavailable, APIError) as error:
                    self._problem(row.kind, error)
                    return False
                done.append((row, sequence))
                self._tell(row.event_id)
        return True

    async def _send(self, session: Session, row: Any) -> int | None:
        if row.kind == "record":
            writer = self._writers.setdefault(row.subject, KvWriter(self._bus, row.subject))
            await writer.put(*parse_record(row.body))
            return None
        if row.first_sent_time is not None:  # perhaps it is there already
            last = await self._last(session, row.subject)
            if last is not None and last[1] == row.event_id:
                return last[0]
        headers = {**row.headers, MESSAGE_ID: row.event_id}
        if row.terminal:
            headers[_EXPECTED_LAST] = "0"
        try:
            return (await self._bus.publish(row.subject, row.body.encode(), headers)).seq
        except APIError as error:
            if error.err_code != _WRONG_LAST_SEQUENCE:
                raise
            return await self._forestalled(session, row)

    async def _forestalled(self, session: Session, row: Any) -> int | None:
        """A terminal event's subject holds a message already: ours is sent if it is that one, and refused otherwise."""
        last = await self._last(session, row.subject)
        if last is not None and last[1] == row.event_id:
            return last[0]
        if last is None:
            raise Unavailable("The stream refused a terminal event and holds no other; trying again.")
        self.refused += 1
        reason = f"{row.subject} holds another terminal event ({last[1]}) already"
        _logger.error("%s: %s is kept as a dead letter", reason, row.event_id)
        await keep_dead_letter(
            self._database, "outbox", row.subject, row.event_id, row.headers, row.body.encode(), 1, reason
        )
        return None

    async def _last(self, session: Session, subject: str) -> tuple[int, str] | None:
        """Sequence and event id of the last message of an exact subject."""
        return await self._stored(session, subject=subject)

    async def _stored(
        self, session: Session, *, subject: str | None = None, sequence: int | None = None
    ) -> tuple[int, str] | None:
        try:
            message = await session.call(session.js.get_msg(EVENTS_STREAM, seq=sequence, subject=subject))
        except NotFoundError:
            return None
        return int(message.seq or 0), str((message.headers or {}).get(MESSAGE_ID, ""))

    async def _mark_sent(self, done: list[tuple[Any, int | None]]) -> None:
        if not done:
            return
        values = {"sent_time": now(), "sequence": bindparam("stored_at")}
        marks = [{"row_id": row.id, "stored_at": sequence} for row, sequence in done]
        async with UnitOfWork(self._database) as uow:
            await uow.connection.execute(
                update(outbox).where(outbox.c.id == bindparam("row_id")).values(**values), marks
            )
            await uow.commit()
        for row, _ in done:  # whoever began to wait between the acknowledgement and the mark
            self._tell(row.event_id)

    def _tell(self, event_id: str) -> None:
        for future in self._waiting.get(event_id, ()):
            if not future.done():
                future.set_result(None)

    async def _look_for_lost(self, session: Session) -> None:
        """Once per connection: send again what was acknowledged lately and is not there; an ack is not an fsync.

        What a server loses is its newest part, so that the newest message found proves all before it.
        """
        if self._checked == session.number:
            return
        oldest = now() - timedelta(seconds=self._settings.resend_seconds)
        query = select(outbox.c.id, outbox.c.event_id, outbox.c.sequence)
        query = query.where(outbox.c.sent_time >= oldest, outbox.c.sequence.is_not(None))
        async with UnitOfWork(self._database, write=False) as uow:
            rows = (await uow.connection.execute(query.order_by(outbox.c.sequence.desc()))).all()
        lost = []
        for row in rows:
            found = await self._stored(session, sequence=row.sequence)
            if found is not None and found[1] == row.event_id:
                break
            lost.append(row.id)
        if lost:
            _logger.warning("%d acknowledged events are not in the stream; sending them again", len(lost))
            await self._unmark(lost)
        self._checked = session.number

    async def _unmark(self, lost: list[int]) -> None:
        async with UnitOfWork(self._database) as uow:
            for start in range(0, len(lost), ROUND_ROWS):
                rows = outbox.c.id.in_(lost[start : start + ROUND_ROWS])
                await uow.connection.execute(update(outbox).where(rows).values(sent_time=None, sequence=None))
            await uow.commit()

    async def _sweep(self) -> None:
        while True:
            try:
                await sweep(self._database)
            except Exception:  # an edge: sweeping can wait for an hour
                _logger.exception("old rows could not be swept")
            await asyncio.sleep(SWEEP_SECONDS)
