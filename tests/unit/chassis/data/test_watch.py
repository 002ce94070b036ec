"""A watcher sees the resource as it is, then every newer version, and ends after the last one."""

import asyncio
from dataclasses import dataclass

import pytest

from services.chassis.data import QUEUE_LENGTH, Watchers

pytestmark = pytest.mark.unit


@dataclass(frozen=True)
class Thing:
    version: int
    ended: bool = False


class Store:
    def __init__(self) -> None:
        self.thing = Thing(1)
        self.reads = 0

    async def read(self) -> Thing:
        self.reads += 1
        return self.thing


async def collect(watchers: Watchers[Thing], store: Store, after: int = 0, pulses: bool = False) -> list[int]:
    seen = watchers.follow("k", store.read, lambda thing: thing.ended, after, pulses)
    return [thing.version async for thing in seen]


async def subscribed(watchers: Watchers[Thing]) -> None:
    while not watchers._queues:
        await asyncio.sleep(0)


async def test_each_version_is_seen_once_and_in_order() -> None:
    watchers, store = Watchers[Thing](), Store()
    task = asyncio.create_task(collect(watchers, store))
    await subscribed(watchers)
    for version in (2, 2, 1, 3):
        watchers.notify("k", Thing(version))
    watchers.notify("other", Thing(9))
    watchers.notify("k", Thing(4, ended=True))
    assert await task == [1, 2, 3, 4]
    assert not watchers._queues


async def test_a_change_between_subscribing_and_reading_is_not_repeated() -> None:
    watchers = Watchers[Thing]()

    async def read() -> Thing:
        watchers.notify("k", Thing(2))
        watchers.notify("k", Thing(3, ended=True))
        return Thing(2)

    seen = [thing.version async for thing in watchers.follow("k", read, lambda thing: thing.ended)]
    assert seen == [2, 3]


async def test_it_goes_on_after_a_version() -> None:
    watchers, store = Watchers[Thing](), Store()
    store.thing = Thing(5)
    task = asyncio.create_task(collect(watchers, store, after=5))
    await subscribed(watchers)
    watchers.notify("k", Thing(6, ended=True))
    assert await task == [6]


async def test_a_version_above_the_present_one_is_shown_what_is_there() -> None:
    """After a restore the versions begin again below those that watchers have seen: they waited for ever."""
    watchers, store = Watchers[Thing](), Store()
    store.thing = Thing(5)
    task = asyncio.create_task(collect(watchers, store, after=900))
    await subscribed(watchers)
    watchers.notify("k", Thing(6, ended=True))
    assert await task == [5, 6]


async def test_an_ended_resource_is_shown_even_when_it_was_seen() -> None:
    watchers, store = Watchers[Thing](), Store()
    store.thing = Thing(5, ended=True)
    assert await collect(watchers, store, after=5) == [5]


async def test_a_slow_watcher_reads_anew_and_still_sees_the_end() -> None:
    watchers, store = Watchers[Thing](), Store()
    task = asyncio.create_task(collect(watchers, store))
    await subscribed(watchers)
    for version in range(2, QUEUE_LENGTH + 10):
        watchers.notify("k", Thing(version))
    store.thing = Thing(QUEUE_LENGTH + 10, ended=True)
    watchers.notify("k")
    assert (await task)[-1] == QUEUE_LENGTH + 10


async def test_a_pulse_shows_the_same_version_again() -> None:
    watchers, store = Watchers[Thing](), Store()
    task = asyncio.create_task(collect(watchers, store, pulses=True))
    await subscribed(watchers)
    watchers.notify("k")
    while store.reads < 2:
        await asyncio.sleep(0)
    watchers.notify("k", Thing(2, ended=True))
    assert await task == [1, 1, 2]


async def test_a_change_of_another_process_is_found_by_looking() -> None:
    watchers, store = Watchers[Thing](poll_seconds=0.01), Store()
    task = asyncio.create_task(collect(watchers, store))
    await subscribed(watchers)
    store.thing = Thing(2, ended=True)
    assert await task == [1, 2]
