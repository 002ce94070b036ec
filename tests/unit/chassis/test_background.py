"""A background loop survives its ticks, comes at once when kicked, backs off, and says when it keeps failing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from services.chassis.background import BackgroundLoop
from services.chassis.errors import Unavailable

pytestmark = pytest.mark.unit

LONG = 3600.0


class Work:
    """A tick that counts itself and fails while it is told to."""

    def __init__(self) -> None:
        self.count = 0
        self.error: BaseException | None = None

    async def tick(self) -> None:
        self.count += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error


@asynccontextmanager
async def running(loop: BackgroundLoop) -> AsyncIterator[BackgroundLoop]:
    await loop.start()
    try:
        yield loop
    finally:
        await loop.stop()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.001)


async def test_the_first_tick_comes_at_once_and_a_kick_brings_the_next() -> None:
    work = Work()
    async with running(BackgroundLoop("work", work.tick, LONG)) as loop:
        await until(lambda: work.count == 1)
        loop.kick()
        await until(lambda: work.count == 2)


async def test_a_loop_that_shall_wait_first_waits() -> None:
    work = Work()
    async with running(BackgroundLoop("work", work.tick, LONG, at_once=False)) as loop:
        for _ in range(20):
            await asyncio.sleep(0)
        assert work.count == 0
        loop.kick()
        await until(lambda: work.count == 1)


async def test_a_kick_during_a_tick_is_not_lost() -> None:
    work, gate = Work(), asyncio.Event()

    async def tick() -> None:
        await work.tick()
        await gate.wait()

    async with running(BackgroundLoop("work", tick, LONG)) as loop:
        await until(lambda: work.count == 1)
        loop.kick()
        gate.set()
        await until(lambda: work.count == 2)


@pytest.mark.parametrize("error", [Unavailable("gone"), ValueError("odd"), asyncio.CancelledError()])
async def test_a_failed_tick_is_counted_and_repeated_and_forgotten_once_it_works(error: BaseException) -> None:
    work = Work()
    work.error = error
    async with running(BackgroundLoop("work", work.tick, 0.001, failing_seconds=0)) as loop:
        await until(lambda: loop.failures >= 3)
        [lack] = loop.degraded()
        assert lack.name == "work" and (str(error) in lack.message)
        work.error = None
        await until(lambda: loop.failures == 0)
        assert loop.degraded() == []


async def test_a_short_failure_is_no_lack() -> None:
    work = Work()
    work.error = ValueError("odd")
    async with running(BackgroundLoop("work", work.tick, 0.001, failing_seconds=LONG)) as loop:
        await until(lambda: loop.failures >= 2)
        assert loop.degraded() == []


async def test_since_is_the_first_failure_of_the_row() -> None:
    work = Work()
    work.error = ValueError("odd")
    async with running(BackgroundLoop("work", work.tick, 0.001, failing_seconds=0)) as loop:
        await until(lambda: loop.failures >= 1)
        first = loop.degraded()[0].since
        await until(lambda: loop.failures >= 4)
        assert loop.degraded()[0].since == first


def test_the_delay_doubles_up_to_the_longest_and_is_the_period_without_failures() -> None:
    loop = BackgroundLoop("work", Work().tick, 5.0, jitter=0, retry_max_seconds=6)
    delays = []
    for loop.failures in range(6):
        delays.append(loop._pause())
    assert delays == [5.0, 1.0, 2.0, 4.0, 6.0, 6.0]


def test_the_jitter_spreads_the_period() -> None:
    loop = BackgroundLoop("work", Work().tick, 10.0, jitter=0.2)
    delays = [loop._pause() for _ in range(200)]
    assert all(8 <= delay <= 12 for delay in delays) and max(delays) - min(delays) > 1


async def test_stop_ends_a_tick_that_hangs() -> None:
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    loop = BackgroundLoop("work", hang, 1)
    await loop.start()
    await begun.wait()
    async with asyncio.timeout(5):
        await loop.stop()
