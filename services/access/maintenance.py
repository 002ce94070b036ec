"""The periodic maintenance of access, and the wait for gateways to learn of a changed key."""

import asyncio
import logging
import time

from services.access.domain.keys import ApiKey
from services.access.operations import billing, keys, projects
from services.access.operations.context import ServiceContext
from services.chassis.bus import KvKeeper
from services.chassis.clock import now
from services.chassis.delivery import OutboxRelay

_log = logging.getLogger(__name__)
_STEP_SECONDS = 0.1


async def maintain(context: ServiceContext) -> None:
    """Run one round of the maintenance of access: expire keys, free forgotten reservations, make missing buckets."""
    await keys.expire_keys(context, now())
    for reservation in await billing.sweep(context, now()):
        _log.warning("the reservation of %s was freed: its work ended and nobody settled it", reservation.id)
    for project in await projects.all_projects(context):
        await context.stores.try_ensure_bucket(project.bucket)


async def propagate(context: ServiceContext, relay: OutboxRelay, keeper: KvKeeper, seconds: float, key: ApiKey) -> bool:
    """Wait until the gateways' store has acknowledged what changed about a key, and was compared since the start.

    Returns: False if that takes too long: the relay delivers the change later then.
    """
    end = time.monotonic() + seconds
    while True:
        unsent = (await keys.unpropagated([key], context)).get(key.id, [])
        left = end - time.monotonic()
        if left <= 0 or (not unsent and keeper.compared):
            return not unsent and keeper.compared
        # In short steps: a row may be acknowledged just before somebody waits for it, and noted just after.
        await asyncio.gather(*(relay.delivered(row, min(left, _STEP_SECONDS)) for row in unsent))
        await asyncio.sleep(0.005 if unsent else _STEP_SECONDS)
