"""Hours of replicas on a real database: written down, booked once by slice, and stopped before the limit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

import services.serving
from services.chassis.data import Database
from services.chassis.errors import AlreadyExists, Unavailable
from services.clients.fakes import FakeBilling, FakeCredentials, FakeRegistry
from services.serving.clients import Clients
from services.serving.domain.entities import Billing, Deployment
from services.serving.operations import money
from services.serving.operations.context import ServiceContext
from services.serving.settings import ServingSettings
from tests.unit.serving.made import deployment

pytestmark = pytest.mark.integration

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MIGRATIONS = Path(services.serving.__file__).parent / "migrations"


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[ServiceContext]:
    """A desk on an empty database."""
    database = await Database.open(f"sqlite:///{tmp_path}/serving.db", "serving", MIGRATIONS)
    others = Clients(FakeRegistry(), FakeBilling(), FakeCredentials())
    yield ServiceContext(database, others, ServingSettings(home=tmp_path), cores=2)
    await database.close()


def ledger(context: ServiceContext) -> FakeBilling:
    assert isinstance(context.clients.billing, FakeBilling)
    return context.clients.billing


def booked(context: ServiceContext) -> dict[str, float]:
    return {name: record.quantity for name, record in ledger(context).records.items()}


async def stored(context: ServiceContext, **fields: Any) -> Deployment:
    async with context.writing() as uow:
        await uow.deployments.add(replace(deployment(), **fields))
        await uow.commit()
    return await now_is(context)


async def now_is(context: ServiceContext) -> Deployment:
    async with context.reading() as uow:
        return await uow.deployments.get("proj-1", "dep-1")


async def execute(context: ServiceContext, statement: str) -> None:
    async with context.writing() as uow:
        await uow.connection.execute(text(statement))
        await uow.commit()


async def test_hours_add_up_and_a_slice_is_booked_once(context: ServiceContext) -> None:
    number = money.slice_number(NOON, 3600)
    await stored(context, slice=number)
    for _ in range(3):
        await money.meter(await now_is(context), 0.25, 0.0, context, NOON)
    after = await now_is(context)
    assert (after.used_hours, after.slice_hours, after.cost) == (0.75, 0.75, Decimal("0.375000000"))
    assert (booked(context), after.version) == ({}, 1), "hours change no version"
    await money.meter(after, 0.5, 0.0, context, NOON + timedelta(hours=1))
    await money.book(after, number + 1, context)  # as a process does that died after it had booked
    assert booked(context) == {f"dep-1-{number}": 0.75}
    assert (await now_is(context)).used_hours == 1.25
    assert (await now_is(context)).slice_hours == 0.5, "what was booked before is not taken from the new slice"


async def test_hours_are_kept_while_billing_is_away(context: ServiceContext) -> None:
    number = money.slice_number(NOON, 3600)
    found = await stored(context, slice=number, slice_hours=0.75, used_hours=0.75)
    ledger(context).away.add("record_usage")
    with pytest.raises(Unavailable):
        await money.meter(found, 0.25, 0.0, context, NOON + timedelta(hours=1))
    assert (await now_is(context)).slice_hours == 0.75
    ledger(context).away.clear()
    await money.meter(found, 0.25, 0.0, context, NOON + timedelta(hours=1))
    assert booked(context) == {f"dep-1-{number}": 0.75}


async def test_it_is_scaled_to_zero_before_it_costs_more(context: ServiceContext) -> None:
    number = money.slice_number(NOON, 3600)
    await stored(context, slice=number, max_cost=Decimal(1), unit_price=Decimal(1))
    await money.meter(await now_is(context), 0.5, 0.25, context, NOON)
    assert (await now_is(context)).replicas == 1
    await money.meter(await now_is(context), 0.4, 0.25, context, NOON)
    after = await now_is(context)
    assert after.replicas == 0 and after.cost < 1 and "max_cost" in after.cause


async def test_hours_are_counted_once_when_it_could_not_be_scaled_to_zero(context: ServiceContext) -> None:
    found = await stored(context, max_cost=Decimal(1), unit_price=Decimal(1), slice=money.slice_number(NOON, 3600))
    await execute(
        context,
        "CREATE TRIGGER refused BEFORE UPDATE OF replicas ON deployments WHEN NEW.replicas = 0 "
        "BEGIN SELECT RAISE(ABORT, 'not now'); END",
    )
    for _ in range(2):
        with pytest.raises(AlreadyExists):  # what a refused save is taken for
            await money.meter(found, 0.5, 0.75, context, NOON)
    await execute(context, "DROP TRIGGER refused")
    await money.meter(found, 0.5, 0.75, context, NOON)
    after = await now_is(context)
    assert (after.used_hours, after.replicas) == (0.5, 0)


async def test_a_shared_deployment_pays_no_hours(context: ServiceContext) -> None:
    found = await stored(context, billing=Billing.SHARED)
    await money.meter(found, 1.0, 0.0, context, NOON)
    assert (await now_is(context)).used_hours == 0
