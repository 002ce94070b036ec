"""Tasks that are ended have ended, whatever they made of their cancellation."""

from __future__ import annotations

import asyncio

import pytest

from services.chassis import tasks
from services.chassis.tasks import end_tasks

pytestmark = pytest.mark.unit


async def test_a_cancellation_that_is_swallowed_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "AGAIN_SECONDS", 0.01)
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed == 3:
                    raise

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await end_tasks(task)
    assert task.cancelled() and swallowed == 3


async def test_a_wait_for_that_ends_as_it_is_cancelled_does_not_go_on() -> None:
    event = asyncio.Event()

    async def loop() -> None:
        while True:
            await asyncio.wait_for(event.wait(), 60)
            event.clear()

    task = asyncio.create_task(loop())
    await asyncio.sleep(0.01)
    event.set()  # in the same moment
    await end_tasks(task)
    assert task.done()


async def test_how_a_task_ends_does_not_matter() -> None:
    async def fail() -> None:
        raise ValueError("once")

    failed = asyncio.create_task(fail())
    await asyncio.wait({failed})
    await end_tasks(failed, None, asyncio.create_task(asyncio.sleep(60)))
