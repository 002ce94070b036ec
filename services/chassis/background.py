"""Periodic work beside the calls of a service: one loop that survives every failure and says when it keeps failing."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta

from services.chassis.clock import now
from services.chassis.errors import ModelryError
from services.chassis.readiness import Lack
from services.chassis.tasks import end_tasks

_log = logging.getLogger(__name__)
_RETRY_SECONDS = 1.0


class BackgroundLoop:
    """Calls `tick` every `period_seconds`, and at once after `kick()`.

    A failed tick is logged, counted and repeated after a delay that doubles up to `retry_max_seconds`; a loop that has
    failed for `failing_seconds` says so in `degraded()`.
    """

    def __init__(
        self,
        name: str,
        tick: Callable[[], Awaitable[object]],
        period_seconds: float,
        *,
        jitter: float = 0.1,
        at_once: bool = True,
        kicked: asyncio.Event | None = None,
        retry_max_seconds: float = 10.0,
        failing_seconds: float = 20.0,
    ) -> None:
        """Make a loop; `start` begins it.

        Args:
            name: what the loop does, for logs and readiness (`training sweeper`).
            tick: one round of work. It may raise anything.
            jitter: the part of the period by which a wait may be longer or shorter, from 0 to 1.
            at_once: whether the first tick comes at the start, and not after a period.
            kicked: the event that `kick` sets, when others set it too.
            retry_max_seconds: the longest delay after a failure.
            failing_seconds: how long it must have failed until readiness names it.
        """
        self.name = name
        self.failures = 0  # in a row
        self._tick, self._period, self._jitter, self._at_once = tick, period_seconds, jitter, at_once
        self._kicked = kicked or asyncio.Event()
        self._retry_max = retry_max_seconds
        self._failing = timedelta(seconds=failing_seconds)
        self._failed_since: datetime | None = None
        self._problem = ""
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin, and return at once."""
        self._task = asyncio.create_task(self._run(), name=self.name)

    async def stop(self) -> None:
        """End the loop; a tick under way is cancelled."""
        task, self._task = self._task, None
        await end_tasks(task)

    def kick(self) -> None:
        """Run the next tick at once, or right after the one that runs now."""
        self._kicked.set()

    def degraded(self) -> list[Lack]:
        """Return the newest problem of a loop that keeps failing."""
        since = self._failed_since
        if since is None or now() - since < self._failing:
            return []
        message = f"It has failed {self.failures} times in a row: {self._problem}"
        return [Lack(self.name, message, since)]

    async def _run(self) -> None:
        if not self._at_once:
            await self._wait(self._pause())
        while True:
            self._kicked.clear()
            try:
                await self._tick()
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                self._failed("Something that it waited for was cancelled.", None)
            except Exception as error:  # an edge: the next tick mends it
                self._failed(str(error) or type(error).__name__, error)
            else:
                self._succeeded()
            await self._wait(self._pause())

    def _pause(self) -> float:
        shortest = min(self._period, _RETRY_SECONDS)
        seconds = min(self._retry_max, shortest * 2.0 ** min(self.failures - 1, 30)) if self.failures else self._period
        return seconds * random.uniform(1 - self._jitter, 1 + self._jitter)  # noqa: S311

    async def _wait(self, seconds: float) -> None:
        """Wait, or until there is a kick; after a failure a kick does not shorten the shortest delay."""
        if self.failures:
            shortest = min(seconds, self._period, _RETRY_SECONDS)
            await asyncio.sleep(shortest)
            seconds -= shortest
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._kicked.wait()

    def _failed(self, problem: str, error: Exception | None) -> None:
        self.failures += 1
        self._failed_since = self._failed_since or now()
        if problem != self._problem:  # once for each problem, and not each second
            unforeseen = None if isinstance(error, ModelryError) else error
            _log.warning("%s failed: %s", self.name, problem, exc_info=unforeseen)
        self._problem = problem

    def _succeeded(self) -> None:
        if self.failures:
            _log.info("%s works again after %d failures", self.name, self.failures)
        self.failures, self._failed_since, self._problem = 0, None, ""
