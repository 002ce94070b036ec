"""Read the events of a project from the stream: pages, and what comes from now on.

The cursor is the stream's own sequence. A reader's consumer lives in the server's memory for as long as it is asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.chassis.bus import EVENTS_STREAM, Bus, Session, retry_delay
from services.chassis.data import Page, PageQuery
from services.chassis.errors import Expired, Invalid, Unavailable
from services.chassis.events import PREFIX, Event, Malformed, token

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.js.api import ConsumerInfo

_IDLE_SECONDS = 60.0
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
    async with _reader(session, query, after) as (info, inbox):
        left = int(info.num_pending or 0)
        last = after
        while left > 0 and len(items) < limit:
            message = await session.call(inbox.get(), timeout=_PAGE_SECONDS)
            if not await _is_event(session, message):
                continue
            left -= 1
            last = int(message.metadata.sequence.stream)
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
            async with _reader(session, query, last) as (_, inbox):
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
async def _reader(session: Session, query: Query, after: int) -> AsyncIterator[tuple[ConsumerInfo, asyncio.Queue[Msg]]]:
    """Open a consumer of the events after a cursor, with the messages that it pushes."""
    from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
    from nats.js.errors import APIError

    try:
        async with session.inbox() as (deliver, inbox):
            config = ConsumerConfig(
                deliver_subject=deliver,
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=after + 1,
                filter_subject=query.subject,
                ack_policy=AckPolicy.NONE,
                idle_heartbeat=_HEARTBEAT_SECONDS,
                flow_control=True,
                inactive_threshold=_IDLE_SECONDS,
                mem_storage=True,
            )
            yield await session.call(session.js.add_consumer(EVENTS_STREAM, config)), inbox
    except APIError as error:
        raise Unavailable(f"The events cannot be read now: {error.description}.", reason="BUS_UNAVAILABLE") from error


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
