"""What replicas cost: hours are written down as they are used, and booked slice by slice."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from decimal import Decimal

from services.chassis.errors import NotFound, WrongState
from services.clients.billing import UsageRecord
from services.serving.domain import Billing, Deployment
from services.serving.operations.context import PRICE_ITEM, Desk
from services.serving.operations.deployments import scale_deployment


async def confirm(desk: Desk, deployment: Deployment) -> None:
    """Keeps what the create has taken. Idempotent; the deployment's events do the same. Raises: Unavailable."""
    await desk.clients.registry.confirm_hold(deployment.project, deployment.id)
    if deployment.billing is Billing.DEDICATED:
        with suppress(NotFound, WrongState):
            await desk.clients.billing.confirm(deployment.project, deployment.id)


async def meter(desk: Desk, deployment: Deployment, hours: float, projected: float, now: datetime) -> None:
    """Adds used hours (times compute units); scales to 0 before the limit is passed.

    `projected` are the hours that will be used until the next look.
    """
    if deployment.billing is Billing.SHARED:
        return
    number = slice_number(now, desk.settings.slice_seconds)
    if deployment.slice != number:
        await book(desk, deployment, number)
    if hours > 0:
        async with desk.writing() as uow:
            await uow.meter(deployment, hours)
            await uow.commit()
    limit = deployment.max_cost
    if limit is None or deployment.replicas == 0 or not deployment.unit_price:
        return
    expected = deployment.cost + Decimal(repr(hours + projected)) * deployment.unit_price
    if expected > limit:
        words = f"it would cost more than max_cost ({limit}); it has cost {deployment.cost}"
        await scale_deployment(desk, deployment.project, deployment.id, 0, words, now)


def slice_number(now: datetime, seconds: float) -> int:
    """The slice of the ledger that a moment belongs to."""
    return int(now.timestamp() // seconds)


async def book(desk: Desk, deployment: Deployment, number: int) -> None:
    """Books the hours of the deployment's slice, once, and begins the slice `number`. Raises: Unavailable."""
    if deployment.slice_hours > 0:
        record = UsageRecord(
            id=f"{deployment.id}-{deployment.slice}",
            item=PRICE_ITEM,
            quantity=deployment.slice_hours,
            resource_id=deployment.id,
        )
        await desk.clients.billing.record_usage(deployment.project, record)
    async with desk.writing() as uow:
        await uow.next_slice(deployment.id, deployment.slice, number)
        await uow.commit()
