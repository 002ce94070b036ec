"""The lines of PROMISES.md that concern the bus, each under its own name, on a real server that is killed and wiped."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from deploy.local.testing import RealNats
from services.chassis.bus import Bus, KvKeeper, KvReader
from services.chassis.data import Database, DeadLetters, UnitOfWork, dead_letters
from services.chassis.delivery import Consumer, Message, OutboxRelay
from services.chassis.errors import Unavailable
from services.chassis.events import Event, Record
from services.chassis.settings import Settings

pytestmark = pytest.mark.chaos

Eventually = Callable[..., Awaitable[None]]
Make = Callable[..., Settings]
Stored = Callable[..., Awaitable[list[tuple[str, str]]]]

KEYS = "modelry_keys"

DYING_RELAY = """
import asyncio, os, signal, sys
from pathlib import Path
from services.chassis.bus import Bus
from services.chassis.delivery import OutboxRelay
from services.chassis.data import Database
from services.chassis.settings import Settings, load

class Dying(OutboxRelay):
    async def _mark_sent(self, done):
        if done:
            os.kill(os.getpid(), signal.SIGKILL)

async def main():
    settings = load(Settings, "toy")
    database = await Database.open(settings.database_url, "toy", Path(sys.argv[1]))
    bus = Bus(settings)
    await bus.start()
    await Dying(database, bus, settings).start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


def changed(job: int, happening: str = "running", **more: Any) -> Event:
    return Event("proj-1", "job", f"ftjob-{job}", happening, happening.upper(), **more)


async def emit(database: Database, *events: Event) -> None:
    async with UnitOfWork(database) as uow:
        for event in events:
            uow.emit(event)
        await uow.commit()


class Service:
    """What a service has of the bus: a database, a relay and a consumer that writes down what it is told."""

    def __init__(self, database: Database, settings: Settings, failures: list[Exception] | None = None) -> None:
        self.database, self.settings = database, settings
        self.bus = Bus(settings)
        self.relay = OutboxRelay(database, self.bus, settings)
        durable = f"{settings.service}-on-job"
        self.consumer = Consumer(self.bus, database, durable, "modelry.events.*.job.>", self.handle, settings)
        self.failures = failures or []
        self.tries: list[float] = []
        self.seen: list[str] = []

    async def handle(self, message: Message) -> None:
        self.tries.append(time.monotonic())
        if self.failures:
            raise self.failures.pop(0)
        async with UnitOfWork(self.database) as uow:
            if await uow.first_time(message.event_id):
                self.seen.append(message.event_id)
            await uow.commit()

    async def __aenter__(self) -> "Service":
        await self.bus.start()
        await self.relay.start()
        await self.consumer.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.consumer.stop()
        await self.relay.stop()
        await self.bus.close()


@pytest.mark.parametrize("terminal", [False, True])
async def test_relay_killed_between_ack_and_mark_start_after_the_window_one_message(
    terminal: bool,
    settings: Settings,
    migrations: Path,
    stored: Stored,
    window_over: Callable[[], Awaitable[None]],
) -> None:
    database = await Database.open(settings.database_url, "toy", migrations)
    first, after = changed(1, "succeeded", terminal=terminal), changed(1, "published")
    await emit(database, first, after)
    await database.close()
    environment = {
        **os.environ,
        "MODELRY_HOME": str(settings.home),
        "MODELRY_NATS_URL": settings.nats_url,
        "MODELRY_NATS_PASSWORD": settings.nats_password.get_secret_value(),
        "MODELRY_TOY_DUPLICATE_WINDOW_SECONDS": "2",
    }
    command = [sys.executable, "-c", DYING_RELAY, str(migrations)]
    process = await asyncio.to_thread(subprocess.run, command, timeout=20, cwd=os.getcwd(), env=environment)
    assert process.returncode == -signal.SIGKILL
    before = await stored()
    assert before[0] == (first.subject, first.id)
    await window_over()
    database = await Database.open(settings.database_url, "toy", migrations)
    async with Service(database, settings) as service:
        assert await service.relay.delivered(first.id, 10)
        assert await service.relay.delivered(after.id, 10)
    await database.close()
    assert await stored() == [(first.subject, first.id), (after.subject, after.id)]


async def test_a_handler_that_fails_20_times_nothing_lost_delays_grow(
    database: Database, make_settings: Make, eventually: Eventually
) -> None:
    settings = make_settings(retry_min_seconds=0.01, retry_max_seconds=0.3)
    failures: list[Exception] = [Unavailable("away") for _ in range(20)]
    async with Service(database, settings, failures) as service:
        first, second = changed(1), changed(2)
        await emit(database, first, second)
        await eventually(lambda: len(service.seen) == 2, timeout=30)
        assert service.seen == [first.id, second.id]
        waits = [late - early for early, late in zip(service.tries, service.tries[1:20], strict=False)]
        assert waits[0] < waits[3] < waits[5]
        assert max(waits) < 2


async def test_a_handler_that_surprises_20_times_nothing_lost_and_the_next_message_goes_on(
    database: Database, make_settings: Make, eventually: Eventually
) -> None:
    settings = make_settings(retry_min_seconds=0.01, retry_max_seconds=0.05)
    failures: list[Exception] = [ZeroDivisionError() for _ in range(20)]
    async with Service(database, settings, failures) as service:
        events = [changed(job) for job in range(3)]
        await emit(database, *events)
        await eventually(lambda: len(service.seen) == 1, timeout=30)
        async with UnitOfWork(database, write=False) as uow:
            letters = (await uow.connection.execute(select(dead_letters).order_by(dead_letters.c.id))).all()
        assert [letter.event_id for letter in letters] == [events[0].id, events[1].id]
        assert [letter.deliveries for letter in letters] == [10, 10]
        for letter in letters:
            await service.consumer.replay(await DeadLetters(database).get(letter.id))
        assert service.seen == [events[2].id, events[0].id, events[1].id]


async def test_nats_away_longer_than_every_limit_services_started_meanwhile_all_go_on(
    own_nats: RealNats,
    database: Database,
    make_settings: Make,
    migrations: Path,
    stored: Stored,
    eventually: Eventually,
) -> None:
    settings = make_settings()
    async with Service(database, settings) as old:
        early = changed(1)
        await emit(database, early)
        await eventually(lambda: old.seen == [early.id])
        own_nats.kill()
        down = time.monotonic()
        await eventually(lambda: not old.bus.connected)
        other = make_settings(service="other", home=settings.home / "other")
        young_database = await Database.open(other.database_url, "other", migrations)
        young = Service(young_database, other)
        async with young:
            assert young.bus.degraded()
            assert [lack.name for lack in young.bus.degraded()] == ["nats"]
            meanwhile = [changed(2), changed(3)]
            await emit(database, meanwhile[0])
            await emit(young_database, meanwhile[1])
            with pytest.raises(Unavailable):
                await old.bus.send("modelry.heartbeat.toy.x", b"")
            longest = max(settings.duplicate_window_seconds, settings.ack_wait_seconds, settings.resend_seconds)
            await eventually(lambda: time.monotonic() - down > 2 * longest, timeout=20)
            own_nats.start()
            for service, event in zip((old, young), meanwhile, strict=True):
                assert await service.relay.delivered(event.id, 10)
            wanted = {early.id, *(event.id for event in meanwhile)}
            await eventually(lambda: set(old.seen) == wanted and set(young.seen) == wanted)
            assert not [*old.bus.degraded(), *old.relay.degraded(), *young.bus.degraded(), *young.relay.degraded()]
            assert len(old.seen) == len(young.seen) == 3
        await young_database.close()
    assert sorted(event_id for _, event_id in await stored()) == sorted(wanted)


class Keys:
    """The owner's side: keys in a table of the test, put by the relay, compared by a keeper."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.rows: dict[str, tuple[int, Any]] = {}
        self.keeper = KvKeeper(service.bus, KEYS, self.read, service.settings)

    async def read(self) -> dict[str, tuple[int, Any]]:
        return dict(self.rows)

    async def put(self, key: str, state: str) -> str:
        version = self.rows.get(key, (0, None))[0] + 1
        record = Record(KEYS, key, version, {"state": state})
        async with UnitOfWork(self.service.database) as uow:
            row = uow.put_record(record)
            await uow.commit()
        self.rows[key] = (version, record.value)
        return row


async def test_nats_restarted_and_a_key_revoked_in_the_first_second_refused_within_a_second_of_the_reconnect(
    own_nats: RealNats, database: Database, make_settings: Make, eventually: Eventually
) -> None:
    gateway = Bus(make_settings(nats_user="gateway", nats_password=own_nats.passwords["gateway"]), streams=False)
    reader = KvReader(gateway, KEYS, lambda key, value: None)
    async with Service(database, make_settings()) as service:
        keys = Keys(service)
        for number in range(200):
            await keys.put(f"key-{number}", "active")
        assert await service.relay.delivered(await keys.put("key-7", "active"), 10)
        await gateway.start()
        await reader.start()
        await eventually(lambda: len(reader.values()) == 200)
        for _ in range(3):
            key = f"key-{_}"
            own_nats.kill()
            await eventually(lambda: not gateway.connected)
            before = gateway.generation
            own_nats.start()
            row = await keys.put(key, "revoked")
            await eventually(lambda: gateway.generation > before)  # noqa: B023
            reconnected = time.monotonic()
            await eventually(lambda: reader.get(key) == {"state": "revoked"}, timeout=5)  # noqa: B023
            assert time.monotonic() - reconnected < 1
            assert await service.relay.delivered(row, 5)
        await reader.stop()
        await gateway.close()


async def test_bucket_wiped_known_keys_work(
    own_nats: RealNats, database: Database, make_settings: Make, eventually: Eventually
) -> None:
    gateway = Bus(make_settings(nats_user="gateway", nats_password=own_nats.passwords["gateway"]), streams=False)
    told: list[tuple[str, Any]] = []
    reader = KvReader(gateway, KEYS, lambda key, value: told.append((key, value)))
    async with Service(database, make_settings()) as service:
        keys = Keys(service)
        await keys.put("good", "active")
        await keys.put("bad", "active")
        await keys.keeper.start()
        await gateway.start()
        await reader.start()
        await keys.put("bad", "revoked")
        await eventually(lambda: reader.get("good") is not None and reader.get("bad") == {"state": "revoked"})
        own_nats.wipe()
        assert reader.get("good") == {"state": "active"}
        own_nats.start()
        await eventually(lambda: gateway.connected)
        assert reader.get("good") == {"state": "active"}
        assert reader.get("bad") == {"state": "revoked"}

        async def rebuilt() -> bool:
            try:
                return await keys.keeper.writer.read_all() == keys.rows
            except Unavailable:
                return False

        await eventually(rebuilt)
        await keys.put("new", "active")
        await eventually(lambda: reader.get("new") == {"state": "active"}, timeout=10)
        assert ("good", None) not in told
        assert ("bad", None) not in told
        await keys.keeper.stop()
        await reader.stop()
        await gateway.close()


async def test_nats_that_hangs_is_noticed_and_nothing_is_sent_twice(
    own_nats: RealNats, database: Database, make_settings: Make, stored: Stored, eventually: Eventually
) -> None:
    async with Service(database, make_settings(publish_seconds=0.3)) as service:
        first = changed(1)
        await emit(database, first)
        assert await service.relay.delivered(first.id, 5)
        own_nats.pause()
        try:
            second = changed(1, "done")
            await emit(database, second)
            assert not await service.relay.delivered(second.id, 1)
            assert service.relay.degraded()
        finally:
            own_nats.resume()
        assert await service.relay.delivered(second.id, 10)
        await eventually(lambda: service.relay.degraded() == [])
    assert await stored() == [(first.subject, first.id), (second.subject, second.id)]
