"""Waiting with one timer for all: in time, too long, and cancelled by somebody else."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.grpc_bounds import Patience

pytestmark = pytest.mark.unit

SECONDS = 0.05


async def soon(value: int) -> int:
    """Something that is done after a turn of the loop."""
    await asyncio.sleep(0)
    return value


async def test_what_is_done_in_time_is_returned() -> None:
    patience = Patience(SECONDS)
    assert await asyncio.gather(*(patience.wait(soon(n)) for n in range(10))) == list(range(10))


async def test_each_who_waits_too_long_is_told_so() -> None:
    patience = Patience(SECONDS)
    waits = [patience.wait(asyncio.Event().wait()) for _ in range(3)]
    answers = await asyncio.gather(*waits, return_exceptions=True)
    assert [type(answer) for answer in answers] == [TimeoutError] * 3
    with pytest.raises(TimeoutError):  # again, after nobody waited
        await patience.wait(asyncio.Event().wait())
    task = asyncio.current_task()
    assert task is not None and task.cancelling() == 0


async def test_whoever_is_cancelled_meanwhile_is_cancelled() -> None:
    task = asyncio.create_task(Patience(SECONDS).wait(asyncio.Event().wait()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_time_in_which_nothing_ran_is_nobodys() -> None:
    patience, come = Patience(SECONDS), asyncio.Event()
    waiting = asyncio.create_task(patience.wait(come.wait()))
    await asyncio.sleep(0)
    time.sleep(2 * SECONDS)
    asyncio.get_running_loop().call_later(SECONDS / 4, come.set)
    assert await waiting
