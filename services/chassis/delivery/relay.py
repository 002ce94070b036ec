"""The outbox relay: publishes what units of work emitted, once each, in order per resource.

A row is marked as sent for the first time before it is published and as sent after the acknowledgement. A relay that
dies between the two leaves a row that was perhaps stored: it is published again only after the last message of its
exact subject was read and is not it, because the server's own check for duplicates forgets after its window.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

from nats.js.errors import APIError, NotFoundError

from services.chassis.bus import EVENTS_STREAM, Bus, KvWriter, Session, parse_record, retry_delay
from services.chassis.clock import now
from services.chassis.data import Database, DeadLetter, DeadLetters
from services.chassis.delivery.outbox import ROUND_ROWS, Outbox
from services.chassis.errors import Unavailable
from services.chassis.events import MESSAGE_ID
from services.chassis.readiness import Lack, LackLog
from services.chassis.settings import Settings
from services.chassis.tasks import end_tasks

KEYS_AT_ONCE = 64
ROUND_SECONDS = 0.02
"""From one round to the next at least, unless a round was full: what comes meanwhile is taken and marked together."""
IDLE_SECONDS = 1.0

_EXPECTED_LAST = "Nats-Expected-Last-Subject-Sequence"
_WRONG_LAST_SEQUENCE = 10071
_FULL = (10077, 10076, 10122)  # maximum bytes, maximum messages, maximum per subject
_STREAM_FULL = f"The stream {EVENTS_STREAM} is full: the outbox waits until it has room."

_log = logging.getLogger(__name__)


class OutboxRelay:
    """Publish a database's outbox. One per database."""

    def __init__(self, database: Database, bus: Bus, settings: Settings) -> None:
        self._database, self._bus, self._settings = database, bus, settings
        self._outbox = Outbox(database)
        self._kicks = {kind: asyncio.Event() for kind in ("event", "record")}
        self._lacks = LackLog()  # by kind of row
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting: dict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._writers: dict[str, KvWriter] = {}
        self._checked = 0  # the connection on which what was sent lately has been looked for
        self.refused = 0  # terminal events that a different one had forestalled
        database.on_commit(self._committed)

    async def start(self) -> None:
        """Begin to publish, as soon as there is a connection. Events and records do not wait for each other."""
        self._tasks = [asyncio.create_task(self._pump(kind), name=f"relay-{kind}") for kind in self._kicks]

    async def stop(self) -> None:
        """Stop publishing; what is unsent stays in the outbox."""
        await end_tasks(*self._tasks)
        self._tasks = []

    def degraded(self) -> list[Lack]:
        """Return why the outbox waits, if it does."""
        names = {_STREAM_FULL: EVENTS_STREAM}  # a full stream is named by itself; anything else is the outbox
        return [replace(lack, name=names.get(lack.message, "outbox")) for lack in self._lacks.all()]

    def _committed(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            self._kicks[row["kind"]].set()

    async def backlog(self) -> int:
        """Return how many rows are not sent yet."""
        return await self._outbox.count_unsent()

    async def delivered(self, event_id: str, timeout: float) -> bool:
        """Wait a little for the acknowledgement of an outbox row: `Event.id`, or what `put_record` returned.

        Call it after the commit.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[event_id].add(future)
        try:
            if await self._outbox.is_sent(event_id):
                return True
            await asyncio.wait_for(future, timeout)
        except TimeoutError:
            return False
        finally:
            self._waiting[event_id].discard(future)
            if not self._waiting[event_id]:
                del self._waiting[event_id]
        return True

    async def _pump(self, kind: str) -> None:
        tries, settings = 0, self._settings
        while True:
            session = await self._bus.session()
            self._kicks[kind].clear()
            try:
                if kind == "event":
                    await self._look_for_lost(session)
                sent = await self._round(session, kind)
            except Exception as error:  # an edge: the outbox is the buffer, and tries again
                tries += 1
                self._problem(kind, error)
                await self._wait(kind, retry_delay(tries, settings.retry_min_seconds, settings.retry_max_seconds))
                continue
            tries = 0
            self._lacks.clear(kind)
            if not sent:
                await self._wait(kind, IDLE_SECONDS)
            elif sent < ROUND_ROWS:
                await asyncio.sleep(ROUND_SECONDS)

    async def _wait(self, kind: str, seconds: float) -> None:
        """Wait, or until there is something new; but after a failure not less than the shortest delay."""
        if self._lacks.has(kind):
            await asyncio.sleep(min(seconds, self._settings.retry_min_seconds))
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._kicks[kind].wait()

    def _problem(self, kind: str, error: Exception) -> None:
        full = isinstance(error, APIError) and error.err_code in _FULL
        message = _STREAM_FULL if full else f"The outbox waits: {error}"
        if self._lacks.note(kind, message):
            _log.warning("%s", message, exc_info=not isinstance(error, (Unavailable, APIError)))

    async def _round(self, session: Session, kind: str) -> int:
        """Send what is unsent, oldest first, keys in parallel. Returns how many. Raises what the first failure was."""
        by_key: dict[str, list[Any]] = defaultdict(list)
        for row in await self._outbox.take(kind):
            by_key[row.ordering_key].append(row)
        done: list[tuple[Any, int | None]] = []
        gate = asyncio.Semaphore(KEYS_AT_ONCE)
        sending = (self._send_in_order(session, rows, gate, done) for rows in by_key.values())
        try:
            results = await asyncio.gather(*sending, return_exceptions=True)
        finally:
            await asyncio.shield(self._mark_sent(done))
        for failure in filter(None, results):
            raise failure
        return len(done)

    async def _send_in_order(
        self, session: Session, rows: list[Any], gate: asyncio.Semaphore, done: list[tuple[Any, int | None]]
    ) -> None:
        """Send the rows of one ordering key, each after the acknowledgement of the one before."""
        async with gate:
            for row in rows:
                done.append((row, await self._send(session, row)))
                self._tell(row.event_id)

    async def _send(self, session: Session, row: Any) -> int | None:
        if row.kind == "record":
            writer = self._writers.setdefault(row.subject, KvWriter(self._bus, row.subject))
            await writer.put(*parse_record(row.body))
            return None
        if row.first_sent_time is not None:  # perhaps it is there already
            last = await self._stored(session, subject=row.subject)
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
        """Judge a terminal event whose subject holds a message already: sent if it is ours, refused otherwise."""
        last = await self._stored(session, subject=row.subject)
        if last is not None and last[1] == row.event_id:
            return last[0]
        if last is None:
            raise Unavailable("The stream refused a terminal event and holds no other; trying again.")
        self.refused += 1
        reason = f"{row.subject} holds another terminal event ({last[1]}) already"
        _log.error("%s: %s is kept as a dead letter", reason, row.event_id)
        letter = DeadLetter("outbox", row.subject, row.event_id, row.headers, row.body.encode(), 1, reason)
        await DeadLetters(self._database).keep(letter)
        return None

    async def _stored(
        self, session: Session, *, subject: str | None = None, sequence: int | None = None
    ) -> tuple[int, str] | None:
        """Return sequence and event id of the message at a sequence, or of the last one of an exact subject."""
        try:
            message = await session.call(session.js.get_msg(EVENTS_STREAM, seq=sequence, subject=subject))
        except NotFoundError:
            return None
        return int(message.seq or 0), str((message.headers or {}).get(MESSAGE_ID, ""))

    async def _mark_sent(self, done: list[tuple[Any, int | None]]) -> None:
        await self._outbox.mark_sent(done)
        for row, _ in done:  # whoever began to wait between the acknowledgement and the mark
            self._tell(row.event_id)

    def _tell(self, event_id: str) -> None:
        for future in self._waiting.get(event_id, ()):
            if not future.done():
                future.set_result(None)

    async def _look_for_lost(self, session: Session) -> None:
        """Send again what was acknowledged lately and is not there, once per connection; an ack is not an fsync.

        What a server loses is its newest part, so that the newest message found proves all before it.
        """
        if self._checked == session.number:
            return
        oldest = now() - timedelta(seconds=self._settings.resend_seconds)
        rows = await self._outbox.sent_since(oldest)
        lost = []
        for row in rows:
            stored = await self._stored(session, sequence=row.sequence)
            if stored is not None and stored[1] == row.event_id:
                break
            lost.append(row.id)
        if lost:
            _log.warning("%d acknowledged events are not in the stream; sending them again", len(lost))
            await self._outbox.mark_unsent(lost)
        self._checked = session.number
