"""Ending asyncio tasks for sure."""

import asyncio
from typing import Any

AGAIN_SECONDS = 2.0


async def end_tasks(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel tasks until they have ended; how they end does not matter.

    One cancellation is not enough: what ends in the same moment inside of an `asyncio.wait_for` swallows it
    (https://github.com/python/cpython/issues/86296), and libraries wait that way.
    """
    waiting = {task for task in tasks if task is not None and not task.done()}
    while waiting:
        for task in waiting:
            task.cancel()
        ended, waiting = await asyncio.wait(waiting, timeout=AGAIN_SECONDS)
        await asyncio.gather(*ended, return_exceptions=True)
