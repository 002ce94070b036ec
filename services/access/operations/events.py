"""Read the events of a project from the stream: pages, and what comes from now on.

The cursor is the stream's own sequence. A reader's consumer lives in the server's memory, and its reader removes it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.chassis.bus import EVENTS_STREAM, Bus, Session, retry_delay
from services.chassis.data import Page, PageQuery
from services.chassis.errors import Expired, Invalid, Unavailable
from services.chassis.events import PREFIX, Event, Malformed, token

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.js.api import ConsumerInfo

_NEXT = "$JS.API.CONSUMER.MSG.NEXT"
_IDLE_SECONDS = 60.0
"""After which the server forgets a consumer whose reader was lost with its connection; all others remove their own."""
_HEARTBEAT_SECONDS = 5.0
_SILENCE_SECONDS = 12.0
_PAGE_SECONDS = 10.0
OLDEST = -1

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Query:
    """Which events: of one project, and perhaps of one noun, one resource, one happening."""

    project: str
    resource: str = ""
    resource_id: str = ""
    happening: str = ""

    @property
    def subject(self) -> str:
        """The subjects that it asks for."""
        parts = (self.project, self.resource, self.resource_id, self.happening)
        return ".".join((PREFIX, *(token(part) if part else "*" for part in parts)))


@dataclass(frozen=True)
class Stored:
    """An event and its place in the stream."""

    event: Event
    sequence: int


async def list_events(bus: Bus, query: Query, page: PageQuery) -> Page[Stored]:
    """Return a page of a project's events, oldest first. Raises: Invalid, Expired (EVENTS_EXPIRED), Unavailable."""
    limit, after, session = page.limit, page.position, bus.now()
    await _check_kept(session, after, "page_token")
    items: list[Stored] = []
    async with session.inbox() as (reply, inbox), _consumer(session, query, after) as info:
        left, last = int(info.num_pending or 0), after
        asked = min(left, limit)  # what is not asked for is not sent: a page costs the same, however much follows
        if asked:
            ask = json.dumps({"batch": asked, "expires": int(_PAGE_SECONDS * 1e9)}).encode()
            await session.call(session.client.publish(f"{_NEXT}.{EVENTS_STREAM}.{info.name}", ask, reply=reply))
        for _ in range(asked):
            message = await session.call(inbox.get(), timeout=_PAGE_SECONDS)
            if (message.headers or {}).get("Status"):
                raise Unavailable("The events cannot be read now.", reason="BUS_UNAVAILABLE")
            left, last = int(message.metadata.num_pending), int(message.metadata.sequence.stream)
            items += _parsed(message)
    return Page(tuple(items), str(last) if left > 0 else "")


async def start_of_watch(bus: Bus, after: int) -> int:
    """Return the sequence after which a watch begins. `after`: 0 is from now on, -1 from the oldest kept.

    Raises: Invalid; Expired (EVENTS_EXPIRED); Unavailable: the bus is away.
    """
    session = bus.now()
    if after > 0:
        await _check_kept(session, after, "after")
        return after
    return 0 if after == OLDEST else (await _bounds(session))[1]


async def watch_events(bus: Bus, query: Query, after: int) -> AsyncGenerator[Stored, None]:
    """Yield a project's events after a sequence, for ever, through losses of the connection."""
    last, tries = after, 0
    while True:
        session = await bus.session()
        expected = 1
        try:
            async with session.inbox() as (deliver, inbox), _consumer(session, query, last, deliver):
                while True:
                    message = await session.call(inbox.get(), timeout=_SILENCE_SECONDS)
                    tries = 0
                    if not await _is_event(session, message):
                        continue
                    if int(message.metadata.sequence.consumer) != expected:
                        raise Unavailable("An event was not delivered.")
                    expected += 1
                    last = int(message.metadata.sequence.stream)
                    for stored in _parsed(message):
                        yield stored
        except Unavailable as error:
            tries += 1
            _log.info("a watch of events begins anew after %d: %s", last, error.message)
            await asyncio.sleep(retry_delay(tries, 0.1, 2.0))


async def _check_kept(session: Session, after: int, field: str) -> None:
    """Refuse a cursor when what follows it is kept no longer, or that is none of this stream."""
    first, last = await _bounds(session)
    if 0 < after < first - 1:
        raise Expired(
            "The events after this cursor are kept no longer. Begin again without a cursor, and read the resources "
            "as they are now.",
            reason="EVENTS_EXPIRED",
            metadata={"oldest": str(first)},
        )
    if after > last:
        raise Invalid(f"{field} is beyond the newest event; read the resources as they are now.", field=field)


async def _bounds(session: Session) -> tuple[int, int]:
    """Return the sequences of the oldest event that is kept and of the newest."""
    from nats.js.errors import APIError

    try:
        state = (await session.call(session.js.stream_info(EVENTS_STREAM))).state
    except APIError as error:
        raise Unavailable("The stream of events is not there.", reason="BUS_UNAVAILABLE") from error
    return int(state.first_seq), int(state.last_seq)


@asynccontextmanager
async def _consumer(
    session: Session, query: Query, after: int, deliver: str | None = None
) -> AsyncIterator[ConsumerInfo]:
    """Open a consumer of the events after a cursor, and remove it at the end.

    It pushes what comes to `deliver`, or without one sends what it is asked for.
    """
    from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
    from nats.js.errors import APIError

    config = ConsumerConfig(
        deliver_subject=deliver,
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=after + 1,
        filter_subject=query.subject,
        ack_policy=AckPolicy.NONE,
        idle_heartbeat=_HEARTBEAT_SECONDS if deliver else None,
        flow_control=True if deliver else None,
        inactive_threshold=_IDLE_SECONDS,
        mem_storage=True,
    )
    try:
        info = await session.call(session.js.add_consumer(EVENTS_STREAM, config))
    except APIError as error:
        raise Unavailable(f"The events cannot be read now: {error.description}.", reason="BUS_UNAVAILABLE") from error
    try:
        yield info
    finally:
        if not session.closed.is_set():
            with suppress(APIError, Unavailable):  # the server forgets it after a while
                await session.call(session.js.delete_consumer(EVENTS_STREAM, info.name), timeout=1)


async def _is_event(session: Session, message: Msg) -> bool:
    """Return whether a message is an event; else it is a heartbeat, or the server asks whether it may send more."""
    if not (message.headers or {}).get("Status"):
        return True
    ask = (message.headers or {}).get("Nats-Consumer-Stalled") or message.reply
    if ask:  # answered only here, when all before it was taken: that bounds the queue
        await session.call(session.client.publish(ask, b""))
    return False


def _parsed(message: Msg) -> list[Stored]:
    """Return the event of a message; nothing if it is none, which only somebody else's publishing can cause."""
    try:
        return [Stored(Event.parse(message.data), int(message.metadata.sequence.stream))]
    except Malformed as error:
        _log.warning("the message at %s is no event: %s", message.subject, error)
        return []
