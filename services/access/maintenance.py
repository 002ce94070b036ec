"""What access does by itself: ends keys, frees money that nobody confirmed, makes missing buckets."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import timedelta

from services.access.domain.keys import ApiKey
from services.access.operations import AccessUnit, billing, keys, projects
from services.access.operations.credentials import Stores
from services.chassis.bus import OutboxRelay
from services.chassis.clock import now

_log = logging.getLogger(__name__)
_STEP_SECONDS = 0.1


class Keeping:
    """A loop that looks every few seconds; each look may fail and is repeated by the next."""

    def __init__(
        self, read: Callable[[], AccessUnit], write: Callable[[], AccessUnit], stores: Stores, hold: timedelta
    ) -> None:
        self._read, self._write, self._stores, self._hold = read, write, stores, hold
        self._task: asyncio.Task[None] | None = None

    async def start(self, seconds: float) -> None:
        """Begin, with a first look now."""
        self._task = asyncio.create_task(self._run(seconds), name="keeping")

    async def stop(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def look(self) -> None:
        """One look."""
        await keys.expire_keys(self._write(), now())
        for reservation in await billing.sweep(self._hold, self._write(), now()):
            _log.warning("the reservation of %s was freed: its work ended and nobody settled it", reservation.id)
        for project in await projects.all_projects(self._read()):
            await self._stores.try_ensure_bucket(project.bucket)

    async def _run(self, seconds: float) -> None:
        while True:
            try:
                await self.look()
            except Exception:  # an edge: the next look mends it
                _log.exception("a look of access failed")
            await asyncio.sleep(seconds)


class Propagation:
    """Waits until the gateways' store has acknowledged what changed about a key."""

    def __init__(self, read: Callable[[], AccessUnit], relay: OutboxRelay, seconds: float) -> None:
        self._read, self._relay, self._seconds = read, relay, seconds

    async def wait(self, key: ApiKey) -> bool:
        """True once it has; false if that takes too long. It arrives later then, by the relay."""
        end = time.monotonic() + self._seconds
        while True:
            unsent = (await keys.unpropagated([key], self._read())).get(key.id, [])
            left = end - time.monotonic()
            if not unsent or left <= 0:
                return not unsent
            # In short steps: a row may be acknowledged just before somebody waits for it, and noted just after.
            await asyncio.gather(*(self._relay.delivered(row, min(left, _STEP_SECONDS)) for row in unsent))
            await asyncio.sleep(0.005)
