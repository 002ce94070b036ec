"""Writers, keepers and readers of KV buckets on a real NATS server."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.local.testing import RealNats
from services.chassis.bus import Bus, KvKeeper, KvReader, KvWriter
from services.chassis.data import Database, UnitOfWork
from services.chassis.delivery import OutboxRelay
from services.chassis.events import Record
from services.chassis.settings import Settings

pytestmark = pytest.mark.integration

BUCKET = "modelry_keys"
Eventually = Callable[..., Awaitable[None]]


class Seen:
    """What a reader told: the values by key, and every change in order."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.changes: list[tuple[str, Any]] = []

    def __call__(self, key: str, value: Any) -> None:
        self.values[key] = value
        self.changes.append((key, value))


async def test_a_reader_sees_what_is_there_and_then_each_change(bus: Bus, eventually: Eventually) -> None:
    await bus.session()
    writer, seen = KvWriter(bus, BUCKET), Seen()
    for number in range(300):
        assert await writer.put(f"k{number}", 1, {"n": number})
    reader = KvReader(bus, BUCKET, seen)
    await reader.start()
    async with asyncio.timeout(5):
        await reader.ready.wait()
    assert len(seen.values) == 300
    await writer.put("k1", 2, {"n": -1})
    await writer.put("ft:base:proj:名.x", 1, {"n": 0})
    await writer.put("k2", 2, None)
    await eventually(lambda: len(seen.changes) == 303)
    assert reader.get("k1") == {"n": -1}
    assert reader.get("ft:base:proj:名.x") == {"n": 0}
    assert reader.get("k2") is None
    assert "k2" not in reader.values()
    await reader.stop()


async def test_an_older_record_never_replaces_a_newer_one(bus: Bus) -> None:
    await bus.session()
    writer = KvWriter(bus, BUCKET)
    assert await writer.put("k", 3, {"state": "revoked"})
    assert not await writer.put("k", 2, {"state": "active"})
    assert not await writer.put("k", 3, {"state": "revoked"})
    assert await writer.read_all() == {"k": (3, {"state": "revoked"})}


async def test_writers_at_once_leave_the_newest(bus: Bus) -> None:
    await bus.session()
    await asyncio.gather(*(KvWriter(bus, BUCKET).put("k", version, {"n": version}) for version in range(1, 6)))
    assert await KvWriter(bus, BUCKET).read_all() == {"k": (5, {"n": 5})}


async def test_a_record_is_put_by_the_relay_after_the_commit(
    bus: Bus, database: Database, settings: Settings, eventually: Eventually
) -> None:
    relay = OutboxRelay(database, bus, settings)
    await relay.start()
    async with UnitOfWork(database) as uow:
        ids = [uow.put_record(Record(BUCKET, "key-1", version, {"n": version})) for version in (1, 2, 3)]
        await uow.commit()
    for row in ids:
        assert await relay.delivered(row, 5)
    assert await KvWriter(bus, BUCKET).read_all() == {"key-1": (3, {"n": 3})}
    await relay.stop()


async def test_delivered_is_false_while_nats_is_away(
    own_nats: RealNats, bus: Bus, database: Database, settings: Settings
) -> None:
    relay = OutboxRelay(database, bus, settings)
    await relay.start()
    await bus.session()
    own_nats.stop()
    async with UnitOfWork(database) as uow:
        row = uow.put_record(Record(BUCKET, "key-1", 1, {"revoked": True}))
        await uow.commit()
    assert not await relay.delivered(row, 0.3)
    own_nats.start()
    assert await relay.delivered(row, 10)
    await relay.stop()


async def test_the_keeper_puts_what_the_bucket_lacks_and_buries_what_nobody_knows(bus: Bus, settings: Settings) -> None:
    await bus.session()
    writer = KvWriter(bus, BUCKET)
    await writer.put("stale", 1, {"n": 1})
    await writer.put("unknown", 7, {"n": 7})

    async def records() -> dict[str, tuple[int, Any]]:
        return {"stale": (2, {"n": 2}), "missing": (1, {"n": 3}), "gone": (4, None)}

    keeper = KvKeeper(bus, BUCKET, records, settings)
    assert await keeper.compare() == 4
    assert await keeper.compare() == 0
    assert await writer.read_all() == {
        "stale": (2, {"n": 2}),
        "missing": (1, {"n": 3}),
        "gone": (4, None),
        "unknown": (8, None),
    }


async def test_the_keeper_lets_the_owner_overtake_a_bucket_that_is_ahead(bus: Bus, settings: Settings) -> None:
    await bus.session()
    writer = KvWriter(bus, BUCKET)
    await writer.put("ahead", 7, {"n": 7})
    await writer.put("same", 2, {"n": 2})
    rows: dict[str, tuple[int, Any]] = {"ahead": (3, {"n": 3}), "same": (2, {"n": 2})}

    async def records() -> dict[str, tuple[int, Any]]:
        return dict(rows)

    async def overtake(ahead: Any) -> None:
        assert dict(ahead) == {"ahead": (7, {"n": 7})}
        rows["ahead"] = (8, {"n": 3})

    keeper = KvKeeper(bus, BUCKET, records, settings, overtake)
    assert not keeper.compared
    assert await keeper.compare() == 1
    assert keeper.compared
    assert await keeper.compare() == 0
    assert await writer.read_all() == {"ahead": (8, {"n": 3}), "same": (2, {"n": 2})}


async def test_a_reader_goes_on_when_the_bucket_is_rebuilt_while_it_is_connected(
    bus: Bus, settings: Settings, eventually: Eventually
) -> None:
    session = await bus.session()
    writer, seen = KvWriter(bus, BUCKET), Seen()
    await writer.put("k", 1, {"n": 1})
    reader = KvReader(bus, BUCKET, seen)
    await reader.start()
    await eventually(lambda: reader.get("k") == {"n": 1})
    await session.js.delete_key_value(BUCKET)

    async def records() -> dict[str, tuple[int, Any]]:
        return {"k": (2, {"n": 2})}

    keeper = KvKeeper(bus, BUCKET, records, settings)
    await keeper.start()
    await eventually(lambda: reader.get("k") == {"n": 2}, timeout=15)
    assert ("k", None) not in seen.changes
    await keeper.stop()
    await reader.stop()


async def test_a_reader_starts_from_its_snapshot_without_nats(
    own_nats: RealNats, make_settings: Callable[..., Settings], bus: Bus, tmp_path: Path, eventually: Eventually
) -> None:
    file = tmp_path / "gateway" / "keys.json"
    await bus.session()
    await KvWriter(bus, BUCKET).put("k", 5, {"state": "revoked"})
    reader = KvReader(bus, BUCKET, Seen(), file)
    await reader.start()
    await eventually(file.exists)
    await reader.stop()
    assert file.stat().st_mode & 0o777 == 0o600
    own_nats.stop()
    alone = Bus(make_settings())
    await alone.start()
    again = KvReader(alone, BUCKET, Seen(), file)
    await again.start()
    assert again.get("k") == {"state": "revoked"}
    assert not again.ready.is_set()
    await again.stop()
    await alone.close()


async def test_the_gateways_user_reads_and_cannot_write(
    own_nats: RealNats, make_settings: Callable[..., Settings], bus: Bus, eventually: Eventually
) -> None:
    await bus.session()
    await KvWriter(bus, BUCKET).put("k", 1, {"n": 1})
    gateway = Bus(make_settings(nats_user="gateway", nats_password=own_nats.passwords["gateway"]), streams=False)
    await gateway.start()
    reader = KvReader(gateway, BUCKET, Seen())
    await reader.start()
    await eventually(lambda: reader.get("k") == {"n": 1})
    session = await gateway.session()
    await session.client.publish(f"$KV.{BUCKET}.k", b"x")
    await session.client.flush()
    assert await KvWriter(bus, BUCKET).read_all() == {"k": (1, {"n": 1})}
    await reader.stop()
    await gateway.close()
