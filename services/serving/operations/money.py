"""What replicas cost: hours are written down as they are used, and booked slice by slice."""

from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import partial

from services.chassis.errors import NotFound, WrongState
from services.clients.billing import UsageRecord
from services.serving.domain.entities import Billing, Deployment, State
from services.serving.operations.context import PRICE_ITEM, ServiceContext
from services.serving.operations.deployment_state import change_deployment


async def confirm(deployment: Deployment, context: ServiceContext) -> None:
    """Confirm what the create has taken. Idempotent; the deployment's events do the same. Raises: Unavailable."""
    await context.clients.registry.confirm_hold(deployment.project, deployment.id)
    if deployment.billing is Billing.DEDICATED:
        with suppress(NotFound, WrongState):
            await context.clients.billing.confirm(deployment.project, deployment.id)


async def meter(deployment: Deployment, hours: float, projected: float, context: ServiceContext, now: datetime) -> None:
    """Add used hours (times compute units); scale to 0 before the limit is passed.

    `projected` are the hours that will be used until the next call.
    """
    if deployment.billing is Billing.SHARED:
        return
    number = slice_number(now, context.settings.slice_seconds)
    if deployment.slice != number:
        await book(deployment, number, context)
    limit, expected = deployment.max_cost, deployment.cost + Decimal(repr(hours + projected)) * deployment.unit_price
    if limit is not None and expected > limit and deployment.unit_price:
        words = f"It would cost more than max_cost ({limit}); it has cost {deployment.cost}."
        await change_deployment(deployment.id, partial(_give_up, cause=words), context, now, happening="scaled")
    if hours > 0:  # last: what fails before is counted and tried again by the caller
        async with context.writing() as uow:
            await uow.meter(deployment, hours)
            await uow.commit()


def _give_up(deployment: Deployment, cause: str) -> Deployment:
    if deployment.state is State.DELETING or not deployment.replicas:
        return deployment
    return replace(deployment, replicas=0, cause=cause)


def slice_number(now: datetime, seconds: float) -> int:
    """Return the slice of the ledger that a moment belongs to."""
    return int(now.timestamp() // seconds)


async def book(deployment: Deployment, number: int, context: ServiceContext) -> None:
    """Book the hours of the deployment's slice, once, and begin the slice `number`. Raises: Unavailable."""
    if deployment.slice_hours > 0:
        record = UsageRecord(
            id=f"{deployment.id}-{deployment.slice}",
            item=PRICE_ITEM,
            quantity=deployment.slice_hours,
            resource_id=deployment.id,
        )
        await context.clients.billing.record_usage(deployment.project, record)
    async with context.writing() as uow:
        await uow.next_slice(deployment.id, deployment.slice, number)
        await uow.commit()
