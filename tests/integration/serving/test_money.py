"""Hours of replicas on a real database: written down, booked once by slice, and stopped before the limit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import services.serving
from services.chassis.data import Database
from services.chassis.errors import Unavailable
from services.clients.fakes import FakeBilling, FakeCredentials, FakeRegistry
from services.serving.clients import Clients
from services.serving.domain import Billing, Deployment
from services.serving.operations import money
from services.serving.operations.context import Desk
from services.serving.settings import ServingSettings
from tests.unit.serving.made import deployment

pytestmark = pytest.mark.integration

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MIGRATIONS = Path(services.serving.__file__).parent / "migrations"


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk on an empty database."""
    database = await Database.open(f"sqlite:///{tmp_path}/serving.db", "serving", MIGRATIONS)
    others = Clients(FakeRegistry(), FakeBilling(), FakeCredentials())
    yield Desk(database, others, ServingSettings(home=tmp_path), cores=2)
    await database.close()


def ledger(desk: Desk) -> FakeBilling:
    assert isinstance(desk.clients.billing, FakeBilling)
    return desk.clients.billing


def booked(desk: Desk) -> dict[str, float]:
    return {name: record.quantity for name, record in ledger(desk).records.items()}


async def stored(desk: Desk, **fields: Any) -> Deployment:
    async with desk.writing() as uow:
        await uow.deployments.add(replace(deployment(), **fields))
        await uow.commit()
    return await now_is(desk)


async def now_is(desk: Desk) -> Deployment:
    async with desk.reading() as uow:
        return await uow.deployments.get("proj-1", "dep-1")


async def test_hours_add_up_and_a_slice_is_booked_once(desk: Desk) -> None:
    number = money.slice_number(NOON, 3600)
    await stored(desk, slice=number)
    for _ in range(3):
        await money.meter(desk, await now_is(desk), 0.25, 0.0, NOON)
    after = await now_is(desk)
    assert (after.used_hours, after.slice_hours, after.cost) == (0.75, 0.75, Decimal("0.375000000"))
    assert (booked(desk), after.version) == ({}, 1), "hours change no version"
    await money.meter(desk, after, 0.5, 0.0, NOON + timedelta(hours=1))
    await money.book(desk, after, number + 1)  # as a process does that died after it had booked
    assert booked(desk) == {f"dep-1-{number}": 0.75}
    assert (await now_is(desk)).used_hours == 1.25
    assert (await now_is(desk)).slice_hours == 0.5, "what was booked before is not taken from the new slice"


async def test_hours_are_kept_while_billing_is_away(desk: Desk) -> None:
    number = money.slice_number(NOON, 3600)
    found = await stored(desk, slice=number, slice_hours=0.75, used_hours=0.75)
    ledger(desk).away.add("record_usage")
    with pytest.raises(Unavailable):
        await money.meter(desk, found, 0.25, 0.0, NOON + timedelta(hours=1))
    assert (await now_is(desk)).slice_hours == 0.75
    ledger(desk).away.clear()
    await money.meter(desk, found, 0.25, 0.0, NOON + timedelta(hours=1))
    assert booked(desk) == {f"dep-1-{number}": 0.75}


async def test_it_is_scaled_to_zero_before_it_costs_more(desk: Desk) -> None:
    number = money.slice_number(NOON, 3600)
    await stored(desk, slice=number, max_cost=Decimal(1), unit_price=Decimal(1))
    await money.meter(desk, await now_is(desk), 0.5, 0.25, NOON)
    assert (await now_is(desk)).replicas == 1
    await money.meter(desk, await now_is(desk), 0.4, 0.25, NOON)
    after = await now_is(desk)
    assert after.replicas == 0 and after.cost < 1 and "max_cost" in after.cause


async def test_a_shared_deployment_pays_no_hours(desk: Desk) -> None:
    found = await stored(desk, billing=Billing.SHARED)
    await money.meter(desk, found, 1.0, 0.0, NOON)
    assert (await now_is(desk)).used_hours == 0
