"""What replicas cost: hours are booked once, and a limit ends them before it is passed."""

from __future__ import annotations

from decimal import Decimal

import pytest

from services.chassis.errors import Unavailable
from services.serving.domain.entities import State
from services.serving.operations import money
from services.serving.operations.context import ServiceContext
from tests.unit.serving.conftest import Fakes
from tests.unit.serving.made import MOMENT
from tests.unit.serving.stored import (
    LATER,
    create,
    now_of,
)

pytestmark = pytest.mark.unit


async def test_hours_are_booked_slice_by_slice_and_once(context: ServiceContext, others: Fakes) -> None:
    made = await create(context)
    await money.confirm(made, context)
    assert others.billing.in_state("CONFIRMED") == {made.id} == others.registry.holds.confirmed
    await money.meter(made, 0.5, 0, context, MOMENT)
    first = await now_of(context, made)
    await money.meter(first, 0.25, 0, context, MOMENT)
    others.billing.away = {"record_usage"}
    first = await now_of(context, made)
    with pytest.raises(Unavailable):
        await money.meter(first, 1.0, 0, context, LATER)
    others.billing.away = set()
    await money.meter(first, 1.0, 0, context, LATER)
    after = await now_of(context, made)
    assert (after.used_hours, after.slice_hours, after.version) == (1.75, 1.0, made.version)
    assert [(record.id, record.quantity) for record in others.billing.records.values()] == [
        (f"{made.id}-{first.slice}", 0.75)
    ]


async def test_a_deployment_is_scaled_to_0_before_it_costs_more_than_it_may(context: ServiceContext) -> None:
    made = await create(context, max_cost=Decimal(1))
    await money.meter(made, 1.5, 0.5, context, MOMENT)  # 0.75 spent, 1.00 by the next look
    assert (await now_of(context, made)).replicas == 1
    await money.meter(await now_of(context, made), 0.25, 0.5, context, MOMENT)
    stopped = await now_of(context, made)
    assert (stopped.replicas, stopped.state) == (0, State.IDLE)
    assert stopped.cause.startswith("It would cost more than max_cost (1)")
