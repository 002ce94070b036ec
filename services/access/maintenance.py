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


async def maintain(context: ServiceContext, told: set[str]) -> None:
    """Run one round of the maintenance of access: expire keys, free unconfirmed reservations, make missing buckets.

    Args: told: the overdue reservations that the log has named; the caller keeps it from round to round.
    """
    await keys.expire_keys(context, now())
    await billing.sweep(context, now())
    overdue = {reservation.id for reservation in await billing.overdue(context, now())}
    for reservation_id in sorted(overdue - told):
        _log.warning("the work of %s has ended and is not settled: its service is away", reservation_id)
    told.clear()
    told.update(overdue)
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
