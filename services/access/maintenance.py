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


async def maintain(
    read: Callable[[], AccessUnit], write: Callable[[], AccessUnit], stores: Stores, hold: timedelta
) -> None:
    """One round of the periodic maintenance of access: expire keys, free forgotten reservations, make buckets."""
    await keys.expire_keys(write(), now())
    for reservation in await billing.sweep(hold, write(), now()):
        _log.warning("the reservation of %s was freed: its work ended and nobody settled it", reservation.id)
    for project in await projects.all_projects(read()):
        await stores.try_ensure_bucket(project.bucket)


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
