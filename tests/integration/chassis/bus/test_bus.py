"""Outbox, relay and consumers on a real NATS server."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import nats
import pytest
from nats.js.api import DiscardPolicy
from sqlalchemy import func, select, update

from deploy.local.testing import RealNats
from services.chassis.bus import Bus
from services.chassis.data import Database, DeadLetters, UnitOfWork, dead_letters, outbox
from services.chassis.delivery import Consumer, Message, OutboxRelay
from services.chassis.errors import Conflict, Invalid, Unavailable
from services.chassis.events import Event, Malformed
from services.chassis.settings import Settings

pytestmark = pytest.mark.integration

Eventually = Callable[..., Awaitable[None]]
Stored = Callable[..., Awaitable[list[tuple[str, str]]]]


def changed(job: int, happening: str = "running", **more: Any) -> Event:
    return Event("proj-1", "job", f"ftjob-{job}", happening, happening.upper(), **more)


async def emit(database: Database, *events: Event) -> None:
    async with UnitOfWork(database) as uow:
        for event in events:
            uow.emit(event)
        await uow.commit()


async def letters(database: Database) -> list[Any]:
    async with UnitOfWork(database, write=False) as uow:
        return list((await uow.connection.execute(select(dead_letters))).all())


@pytest.fixture
async def relay(database: Database, bus: Bus, settings: Settings) -> Any:
    made = OutboxRelay(database, bus, settings)
    await made.start()
    yield made
    await made.stop()


async def test_the_streams_keep_what_was_promised(bus: Bus, settings: Settings) -> None:
    session = await bus.session()
    events = (await session.js.stream_info("MODELRY_EVENTS")).config
    work = (await session.js.stream_info("MODELRY_WORK")).config
    assert (events.max_age, events.max_bytes, events.discard) == (30 * 86400, 10 << 30, DiscardPolicy.NEW)
    assert (work.max_age, work.max_bytes) == (7 * 86400, 2 << 30)
    assert events.duplicate_window == settings.duplicate_window_seconds


async def test_what_commits_is_published_and_what_does_not_is_not(
    database: Database, relay: OutboxRelay, stored: Stored, eventually: Eventually
) -> None:
    first, lost = changed(1), changed(2)
    await emit(database, first)
    async with UnitOfWork(database) as uow:
        uow.emit(lost)
    assert await relay.delivered(first.id, 5)
    assert await stored() == [(first.subject, first.id)]

    async def empty() -> bool:
        return await relay.backlog() == 0

    await eventually(empty)


async def test_an_event_has_cloud_events_headers_and_the_documented_body(
    database: Database, relay: OutboxRelay, bus: Bus
) -> None:
    event = changed(1, "succeeded", previous_state="RUNNING", version=4, cause="done", links={"model": "mdl-1"})
    await emit(database, event)
    assert await relay.delivered(event.id, 5)
    session = await bus.session()
    message = await session.js.get_last_msg("MODELRY_EVENTS", event.subject)
    headers = message.headers or {}
    assert message.subject == "modelry.events.proj-1.job.ftjob-1.succeeded"
    assert headers["ce-type"] == "modelry.job.succeeded"
    assert (headers["ce-specversion"], headers["ce-id"], headers["ce-subject"]) == ("1.0", event.id, "ftjob-1")
    body = json.loads(message.data or b"")
    assert (body["version"], body["previous_state"], body["links"]) == (4, "RUNNING", {"model": "mdl-1"})
    assert Event.parse(message.data or b"") == event


async def test_events_of_a_resource_keep_their_order(database: Database, relay: OutboxRelay, stored: Stored) -> None:
    events = [changed(job, f"step{step}") for step in range(20) for job in range(5)]
    for event in events:
        await emit(database, event)
    for event in events:
        assert await relay.delivered(event.id, 10)
    subjects = [subject for subject, _ in await stored()]
    for job in range(5):
        own = [subject.rsplit(".", 1)[1] for subject in subjects if f".ftjob-{job}." in subject]
        assert own == [f"step{step}" for step in range(20)]


async def test_an_event_over_256_kb_is_refused_at_emit(database: Database) -> None:
    async with UnitOfWork(database) as uow:
        with pytest.raises(Invalid):
            uow.emit(changed(1, cause="x" * (257 * 1024)))


async def test_a_full_stream_makes_the_outbox_wait_and_readiness_say_so(
    make_settings: Callable[..., Settings], database: Database, stored: Stored, eventually: Eventually
) -> None:
    small = make_settings(events_bytes=20_000)
    bus = Bus(small)
    relay = OutboxRelay(database, bus, small)
    await bus.start()
    await relay.start()
    try:
        events = [changed(job, cause="x" * 1000) for job in range(40)]
        await emit(database, *events)
        await eventually(lambda: [lack.name for lack in relay.degraded()] == ["MODELRY_EVENTS"])
        kept = len(await stored())
        assert 0 < kept < 40
        assert await relay.backlog() == 40 - kept
        session = await bus.session()
        config = (await session.js.stream_info("MODELRY_EVENTS")).config
        config.max_bytes = 1 << 20
        await session.js.update_stream(config)
        for event in events:
            assert await relay.delivered(event.id, 10)
        await eventually(lambda: relay.degraded() == [])
        assert len(await stored()) == 40
    finally:
        await relay.stop()
        await bus.close()


async def test_a_second_terminal_event_on_a_subject_is_refused_and_kept(
    database: Database, relay: OutboxRelay, stored: Stored
) -> None:
    first, second, after = changed(1, "succeeded", terminal=True), changed(1, "succeeded", terminal=True), changed(1)
    for event in (first, second, after):
        await emit(database, event)
    assert await relay.delivered(after.id, 10)
    assert [event_id for _, event_id in await stored()] == [first.id, after.id]
    assert relay.refused == 1
    assert [letter.event_id for letter in await letters(database)] == [second.id]


async def test_what_nats_lost_after_its_ack_is_sent_again(
    own_nats: RealNats, database: Database, relay: OutboxRelay, stored: Stored
) -> None:
    event = changed(1)
    await emit(database, event)
    assert await relay.delivered(event.id, 5)
    own_nats.wipe()
    own_nats.start()
    later = changed(2)
    await emit(database, later)
    assert await relay.delivered(later.id, 10)
    assert sorted(event_id for _, event_id in await stored()) == sorted([event.id, later.id])


async def test_a_removed_stream_is_made_again(bus: Bus, database: Database, relay: OutboxRelay, stored: Stored) -> None:
    session = await bus.session()
    await session.js.delete_stream("MODELRY_EVENTS")
    event = changed(1)
    await emit(database, event)
    assert await relay.delivered(event.id, 10)
    assert await stored() == [(event.subject, event.id)]


class Notebook:
    """A handler that writes down what it is given, when, and fails as it is told."""

    def __init__(self, database: Database, *failures: Exception) -> None:
        self.database, self.failures = database, list(failures)
        self.seen: list[str] = []
        self.times: list[float] = []

    async def __call__(self, message: Message) -> None:
        self.times.append(time.monotonic())
        if self.failures:
            raise self.failures.pop(0)
        async with UnitOfWork(self.database) as uow:
            if await uow.first_time(message.event_id):
                self.seen.append(message.event_id)
            await uow.commit()


def consumer(bus: Bus, database: Database, settings: Settings, handler: Any, subject: str = "*.job.>") -> Consumer:
    return Consumer(bus, database, "toy-on-job", f"modelry.events.{subject}", handler, settings)


async def test_a_consumer_handles_each_event_once_in_order(
    bus: Bus, database: Database, relay: OutboxRelay, settings: Settings, eventually: Eventually
) -> None:
    notes = Notebook(database)
    events = [changed(1, f"step{i}") for i in range(50)]
    await emit(database, *events[:25])
    following = consumer(bus, database, settings, notes)
    await following.start()
    await emit(database, *events[25:])
    await eventually(lambda: len(notes.seen) == 50)
    await eventually(following.caught_up)
    await following.stop()
    assert notes.seen == [event.id for event in events]
    again = Notebook(database)
    following = consumer(bus, database, settings, again)
    await following.start()
    last = changed(1, "last")
    await emit(database, last)
    await eventually(lambda: again.seen == [last.id])
    await following.stop()


async def test_a_durable_takes_over_changed_settings(
    bus: Bus, database: Database, relay: OutboxRelay, make_settings: Callable[..., Settings], eventually: Eventually
) -> None:
    for wait in (2, 3):
        following = consumer(bus, database, make_settings(ack_wait_seconds=wait), Notebook(database))
        await following.start()
        await eventually(following.caught_up)
        info = await (await bus.session()).js.consumer_info("MODELRY_EVENTS", "toy-on-job")
        assert (info.config.ack_wait, info.config.max_ack_pending, info.config.max_deliver) == (wait, 1, -1)
        await following.stop()


async def test_unavailable_and_conflict_are_tried_for_ever(
    bus: Bus, database: Database, relay: OutboxRelay, make_settings: Callable[..., Settings], eventually: Eventually
) -> None:
    settings = make_settings(retry_min_seconds=0.01, retry_max_seconds=0.02)
    failures = [Unavailable("away"), Conflict("crossed")] * 15
    notes = Notebook(database, *failures)
    following = consumer(bus, database, settings, notes)
    await following.start()
    first, second = changed(1), changed(1, "done")
    await emit(database, first, second)
    await eventually(lambda: len(notes.seen) == 2)
    await following.stop()
    assert notes.seen == [first.id, second.id]
    assert len(notes.times) == 32
    assert await letters(database) == []


async def test_a_malformed_message_becomes_a_dead_letter_at_once(
    bus: Bus, database: Database, settings: Settings, eventually: Eventually
) -> None:
    session = await bus.session()
    await session.js.publish(
        "modelry.events.proj-1.job.ftjob-1.running", b"\xff no json", headers={"Nats-Msg-Id": "m1"}
    )

    async def parse(message: Message) -> None:
        message.event()

    following = consumer(bus, database, settings, parse)
    await following.start()
    await eventually(following.caught_up)
    await following.stop()
    (letter,) = await letters(database)
    assert (letter.event_id, letter.body, letter.deliveries) == ("m1", b"\xff no json", 1)
    assert "Malformed" in letter.error


async def test_a_dead_letter_can_be_replayed(
    bus: Bus, database: Database, relay: OutboxRelay, settings: Settings, eventually: Eventually
) -> None:
    notes = Notebook(database, Malformed("not yet understood"))
    following = consumer(bus, database, settings, notes)
    await following.start()
    event = changed(1)
    await emit(database, event)

    async def buried() -> bool:
        return len(await letters(database)) == 1

    await eventually(buried)
    (letter,) = await letters(database)
    await following.replay(await DeadLetters(database).get(letter.id))
    await following.stop()
    assert notes.seen == [event.id]
    (letter,) = await letters(database)
    assert letter.replay_time is not None


async def test_a_slow_handler_keeps_its_message(
    bus: Bus, database: Database, relay: OutboxRelay, make_settings: Callable[..., Settings], eventually: Eventually
) -> None:
    """Longer than ack_wait, which the consumer keeps extending: no second delivery crosses the first."""
    settings = make_settings(ack_wait_seconds=0.5)
    began, release = [], asyncio.Event()

    async def slow(message: Message) -> None:
        began.append(message.deliveries)
        async with asyncio.timeout(1.5):
            await release.wait()

    async def patient(message: Message) -> None:
        try:
            await slow(message)
        except TimeoutError:
            return

    following = consumer(bus, database, settings, patient)
    await following.start()
    await emit(database, changed(1))
    await eventually(lambda: began == [1])
    await eventually(following.caught_up)
    await following.stop()
    assert began == [1]


async def test_heartbeats_are_heard_on_every_connection(own_nats: RealNats, bus: Bus, eventually: Eventually) -> None:
    heard: list[tuple[str, bytes]] = []
    await bus.listen("modelry.heartbeat.toy.*", lambda subject, data: heard.append((subject, data)))
    await bus.session()
    await bus.send("modelry.heartbeat.toy.job-1", b"1")
    await eventually(lambda: len(heard) == 1)
    own_nats.restart()
    await eventually(lambda: bus.generation == 2)
    await bus.send("modelry.heartbeat.toy.job-1", b"2")
    await eventually(lambda: len(heard) == 2)


async def test_a_wrong_password_is_named_and_start_does_not_block(make_settings: Callable[..., Settings]) -> None:
    bus = Bus(make_settings(nats_password="wrong"))
    began = time.monotonic()
    await bus.start()
    assert time.monotonic() - began < 0.1
    with pytest.raises(Unavailable):
        bus.now()
    try:
        async with asyncio.timeout(5):
            while "Authorization" not in bus.degraded()[0].message:
                await asyncio.sleep(0.01)
    finally:
        await bus.close()


async def test_old_rows_are_swept(database: Database, relay: OutboxRelay) -> None:
    from datetime import timedelta

    from services.chassis.clock import now
    from services.chassis.data import sweep

    event = changed(1)
    await emit(database, event)
    assert await relay.delivered(event.id, 5)
    assert await sweep(database) == 0
    async with UnitOfWork(database) as uow:
        await uow.connection.execute(update(outbox).values(sent_time=now() - timedelta(days=2)))
        await uow.commit()
    assert await sweep(database) == 1
    async with UnitOfWork(database, write=False) as uow:
        assert (await uow.connection.execute(select(func.count()).select_from(outbox))).scalar_one() == 0


async def test_the_observer_reads_events_and_strangers_are_refused(
    own_nats: RealNats, database: Database, relay: OutboxRelay
) -> None:
    with pytest.raises(nats.errors.Error):
        await nats.connect(own_nats.url, allow_reconnect=False)
    client = await nats.connect(own_nats.url, user="observer", password=own_nats.passwords["observer"])
    subscription = await client.subscribe("modelry.events.>")
    await client.flush()
    event = changed(1)
    await emit(database, event)
    message = await subscription.next_msg(timeout=5)
    assert (message.headers or {})["ce-id"] == event.id
    await client.close()
