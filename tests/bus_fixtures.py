"""Fixtures of the bus tests: a database, a bus and a server of its own for each, which may stop and wipe it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import nats
import pytest

from deploy.local.testing import RealNats
from services.chassis.bus import Bus
from services.chassis.data import Database
from services.chassis.settings import Settings

MIGRATION = """
from services.chassis.data import create_chassis_tables

revision = "0001"
down_revision = None


def upgrade():
    create_chassis_tables()
"""


@pytest.fixture
def own_nats(tmp_path: Path) -> Iterator[RealNats]:
    with RealNats(tmp_path / "nats") as server:
        yield server


@pytest.fixture
def make_settings(own_nats: RealNats, tmp_path: Path) -> Callable[..., Settings]:
    """Settings with all windows about two seconds long, or shorter where a test would wait for them."""

    def make(**changes: Any) -> Settings:
        values: dict[str, Any] = {
            "service": "toy",
            "home": tmp_path,
            "nats_url": own_nats.url,
            "nats_password": own_nats.passwords["services"],
            "duplicate_window_seconds": 2,
            "ack_wait_seconds": 2,
            "retry_min_seconds": 0.05,
            "retry_max_seconds": 1,
            "reconnect_max_seconds": 0.2,
            "publish_seconds": 1,
            "resend_seconds": 2,
            "compare_seconds": 2,
        }
        return Settings(**{**values, **changes})

    return make


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings()


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)
    (folder / "versions" / "0001_initial.py").write_text(MIGRATION)
    return folder


@pytest.fixture
async def database(settings: Settings, migrations: Path) -> AsyncIterator[Database]:
    opened = await Database.open(settings.database_url, "toy", migrations)
    yield opened
    await opened.close()


@pytest.fixture
async def bus(settings: Settings) -> AsyncIterator[Bus]:
    made = Bus(settings)
    await made.start()
    yield made
    await made.close()


async def until(condition: Callable[[], bool | Awaitable[bool]], timeout: float = 10) -> None:
    """Wait for a condition, by looking often; fails when it does not come true in time."""
    async with asyncio.timeout(timeout):
        while True:
            result = condition()
            if result if isinstance(result, bool) else await result:
                return
            await asyncio.sleep(0.01)


@pytest.fixture
def eventually() -> Callable[..., Awaitable[None]]:
    return until


@pytest.fixture
def window_over(own_nats: RealNats) -> Callable[[], Awaitable[None]]:
    """Waits until the server has forgotten what it saw, by repeating a message until it is stored a second time."""

    async def wait() -> None:
        client = await nats.connect(own_nats.url, user="services", password=own_nats.passwords["services"])
        try:
            js = client.jetstream()
            for attempt in range(2000):
                ack = await js.publish("modelry.work.probe", b"", headers={"Nats-Msg-Id": "probe"})
                if attempt and not ack.duplicate:
                    return
                await asyncio.sleep(0.01)
            raise AssertionError("the window does not end")
        finally:
            await client.close()

    return wait


@pytest.fixture
def stored(own_nats: RealNats) -> Callable[..., Awaitable[list[tuple[str, str]]]]:
    """What a stream holds: (subject, message id) of each message in order."""

    async def read(stream: str = "MODELRY_EVENTS") -> list[tuple[str, str]]:
        client = await nats.connect(own_nats.url, user="services", password=own_nats.passwords["services"])
        try:
            js = client.jetstream()
            state = (await js.stream_info(stream)).state
            found = []
            for sequence in range(state.first_seq, state.last_seq + 1):
                message = await js.get_msg(stream, sequence)
                found.append((str(message.subject), (message.headers or {}).get("Nats-Msg-Id", "")))
            return found
        finally:
            await client.close()

    return read


__all__ = [
    "bus",
    "database",
    "eventually",
    "make_settings",
    "migrations",
    "own_nats",
    "settings",
    "stored",
    "window_over",
]
