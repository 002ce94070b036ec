"""Durable consumers: messages of a stream to a handler, at least once, in order, none lost.

A message is in flight alone. Done: ack. `Unavailable`, `Conflict` or `OverLimit`: again after a delay that grows, for
ever. A surprise: again, and after ten tries a row in `dead_letters`. Malformed: a row at once. The server is never
left to give up by itself, because it does so silently.
"""

import asyncio
import json
import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError
from opentelemetry.trace import SpanKind

from services.chassis import telemetry
from services.chassis.bus import STREAM_SUBJECTS, Bus, Session, retry_delay
from services.chassis.data import Database, DeadLetter, DeadLetters
from services.chassis.errors import Conflict, OverLimit, Unavailable, WrongState
from services.chassis.events import MESSAGE_ID, Event, Malformed
from services.chassis.settings import Settings
from services.chassis.tasks import end_tasks

FETCH_SECONDS = 15.0
STOP_SECONDS = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Message:
    """One message of a stream. `deliveries` counts how often it came, this time included."""

    subject: str
    data: bytes
    headers: Mapping[str, str]
    event_id: str
    sequence: int = 0
    deliveries: int = 1

    def json(self) -> Any:
        """Return the data as JSON. Raises: Malformed: it is none."""
        try:
            return json.loads(self.data)
        except ValueError as error:
            raise Malformed(f"this is no JSON: {error}") from error

    def event(self) -> Event:
        """Return the data as an event. Raises: Malformed: it is none."""
        return Event.parse(self.data)


Handler = Callable[[Message], Awaitable[None]]


class Consumer:
    """A durable consumer and the handler of its messages. One process has it."""

    def __init__(
        self,
        bus: Bus,
        database: Database,
        durable: str,
        filter_subject: str,
        handler: Handler,
        settings: Settings,
    ) -> None:
        """Args: durable: `<service>-on-<resource>`; the stream is that of `filter_subject`."""
        self._bus, self._database, self._settings = bus, database, settings
        self._durable, self._filter, self._handler = durable, filter_subject, handler
        self._stream = next(name for name, all_ in STREAM_SUBJECTS.items() if filter_subject.startswith(all_[:-1]))
        self._task: asyncio.Task[None] | None = None
        self._handling: asyncio.Task[None] | None = None  # lives as long as a message is being handled
        self._stopping = False
        bus.replays[durable] = self.replay
        self._surprises = (0, 0)  # sequence of the message that surprised, and how often

    async def start(self) -> None:
        """Begin to handle messages, as soon as there is a connection."""
        self._stopping = False
        following = self._bus.on_each(self._follow, self._durable, self._settings.retry_min_seconds)
        self._task = asyncio.create_task(following, name=self._durable)

    async def stop(self) -> None:
        """Stop; a message being handled gets a few seconds to end."""
        self._stopping = True
        if self._handling is not None:
            await asyncio.wait((self._handling,), timeout=STOP_SECONDS)
        await end_tasks(self._task)

    async def caught_up(self) -> bool:
        """Return whether every message that was stored before this call has been handled. False also without NATS."""
        try:
            session = self._bus.now()
            info = await session.call(session.js.consumer_info(self._stream, self._durable))
        except (Unavailable, APIError):
            return False
        return not info.num_pending and not info.num_ack_pending

    async def replay(self, letter: DeadLetter) -> DeadLetter:
        """Hand a dead letter of this consumer to the handler again; if it succeeds, the letter is marked replayed.

        Raises: WrongState: it failed again. Unavailable, Conflict, OverLimit: it may succeed later.
        """
        letters = DeadLetters(self._database)
        message = Message(letter.subject, letter.body, letter.headers, letter.event_id, 0, letter.deliveries + 1)
        try:
            async with asyncio.timeout(self._settings.handler_seconds):
                await self._handler(message)
        except (Unavailable, Conflict, OverLimit):
            raise
        except Exception as error:  # an edge
            _log.warning("dead letter %s failed again", letter.id, exc_info=error)
            await letters.note_failure(letter, reason := _reason(error))
            text = f"{self._durable} failed again on dead letter {letter.id}: {reason}"
            raise WrongState(text, reason="REPLAY_FAILED") from error
        return await letters.note_replay(letter)

    async def _follow(self, session: Session) -> None:
        """Handle messages on one connection until it is lost."""
        await self._ensure(session)
        async with session.inbox() as (reply, inbox):
            while not self._stopping:
                message = await self._next(session, reply, inbox)
                if message is not None:
                    await self._one(message)

    async def _ensure(self, session: Session) -> None:
        config = ConsumerConfig(
            durable_name=self._durable,
            filter_subject=self._filter,
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self._settings.ack_wait_seconds,
            max_ack_pending=1,
            max_deliver=-1,
        )
        await session.call(session.js.add_consumer(self._stream, config))

    async def _next(self, session: Session, reply: str, inbox: "asyncio.Queue[Msg]") -> Msg | None:
        """Ask for one message. None: nothing came, ask again.

        Raises: Unavailable: the consumer is no more, or the connection.
        """
        if inbox.empty():
            request = json.dumps({"batch": 1, "expires": int(FETCH_SECONDS * 1e9)}).encode()
            subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._durable}"
            await session.call(session.client.publish(subject, request, reply=reply))
        message = await session.call(inbox.get(), timeout=FETCH_SECONDS + 2)
        status = (message.headers or {}).get("Status")
        if message.reply and not status:
            return message
        if status in ("404", "408", "100"):  # nothing there, time is over, a heartbeat
            return None
        words = (message.headers or {}).get("Description", "no answer")
        raise Unavailable(f"Consumer {self._durable}: {status} {words}.")

    async def _one(self, raw: Msg) -> None:
        meta = raw.metadata
        headers = dict(raw.headers or {})
        event_id = headers.get(MESSAGE_ID) or headers.get("ce-id") or f"{self._stream}-{meta.sequence.stream}"
        sequence, deliveries = int(meta.sequence.stream), int(meta.num_delivered or 1)
        message = Message(raw.subject, raw.data, headers, event_id, sequence, deliveries)
        self._handling = asyncio.create_task(self._hold(raw))
        try:
            with telemetry.span(f"handle {self._durable}", headers, SpanKind.CONSUMER):
                await self._handle(raw, message)
        except asyncio.CancelledError:
            with suppress(Exception):  # it comes again either way, after ack_wait
                await raw.nak()
            raise
        finally:
            self._handling.cancel()

    async def _hold(self, raw: Msg) -> None:
        """Tell the server that the message is still being handled."""
        while True:
            await asyncio.sleep(self._settings.ack_wait_seconds / 3)
            with suppress(Exception):  # if the connection is lost, the message comes again
                await raw.in_progress()

    async def _handle(self, raw: Msg, message: Message) -> None:
        try:
            async with asyncio.timeout(self._settings.handler_seconds):
                await self._handler(message)
        except (Unavailable, Conflict, OverLimit) as error:
            await self._again(raw, message, error)
        except Malformed as error:
            await self._bury(raw, message, error)
        except Exception as error:  # an edge
            await self._surprised(raw, message, error)
        else:
            await raw.ack()

    async def _surprised(self, raw: Msg, message: Message, error: Exception) -> None:
        count = self._surprises[1] + 1 if self._surprises[0] == message.sequence else 1
        self._surprises = (message.sequence, count)
        _log.warning(
            "%s: message %d failed (%d): %r", self._durable, message.sequence, count, error, exc_info=count == 1
        )
        if count >= self._settings.surprise_tries:
            await self._bury(raw, message, error)
        else:
            await self._again(raw, message, error)

    async def _again(self, raw: Msg, message: Message, error: Exception) -> None:
        delay = retry_delay(message.deliveries, self._settings.retry_min_seconds, self._settings.retry_max_seconds)
        _log.info("%s: message %d again in %.1f s: %s", self._durable, message.sequence, delay, error)
        await raw.nak(delay=delay)

    async def _bury(self, raw: Msg, message: Message, error: Exception) -> None:
        origin, reason = (message.subject, message.event_id, message.headers), _reason(error)
        letter = DeadLetter(self._durable, *origin, message.data, message.deliveries, reason)
        try:
            await DeadLetters(self._database).keep(letter)
        except Unavailable as problem:
            await self._again(raw, message, problem)
            return
        _log.error("%s: message %d is dead letter %s: %s", self._durable, message.sequence, letter.id, reason)
        await raw.term()


def _reason(error: Exception) -> str:
    return "".join(traceback.format_exception_only(error)).strip()
