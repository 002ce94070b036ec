"""What a priced job sets aside is kept, booked or freed, and no step is lost or stops the others."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from services.chassis.errors import Unavailable
from services.chassis.jobs import PricedJob, Reservations
from services.clients.fakes import FakeBilling, FakeDatasets, FakeRegistry
from services.clients.registry import ModelInfo

pytestmark = pytest.mark.unit
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
ITEM = "training-minute"


@dataclass(frozen=True)
class Expected:
    minutes_low: float = 1.0
    minutes_high: float = 4.0
    description: str = "Work"
    notes: tuple[str, ...] = ("A note.",)


class House:
    """A job that holds a model, and what it set aside."""

    def __init__(self) -> None:
        self.billing, self.registry, self.datasets = FakeBilling(), FakeRegistry(), FakeDatasets()
        self.billing.prices[ITEM] = Decimal(2)
        self.registry.add(ModelInfo(version_id="mv-1", state="READY"))
        self.reservations = Reservations(self.billing, ITEM, (self.registry, self.datasets))
        self.job = PricedJob(id="job-1", project="proj-1", create_time=MOMENT, update_time=MOMENT)

    async def set_aside(self) -> Decimal:
        await self.registry.resolve("proj-1", "mv-1", "job-1")
        return await self.reservations.reserve(self.job, Expected(), "spec")


@pytest.fixture
def house() -> House:
    return House()


async def test_a_quote_is_for_the_whole_range(house: House) -> None:
    quote = await house.reservations.quote("proj-1", Expected(), "spec")
    line = quote.items[0]
    assert (line.description, line.unit, line.quantity_low, line.quantity_high) == ("Work", ITEM, 1.0, 4.0)
    assert list(quote.notes) == ["A note."]


async def test_the_most_that_is_expected_is_reserved(house: House) -> None:
    assert await house.set_aside() == 2
    assert house.billing.reservations["job-1"].quantity == 4.0


async def test_money_and_holds_are_confirmed_together(house: House) -> None:
    await house.set_aside()
    await house.reservations.confirm(house.job)
    assert house.billing.in_state("CONFIRMED") == house.registry.holds.confirmed == {"job-1"}


async def test_what_ran_is_booked_by_the_minute_and_the_holds_are_let_go(house: House) -> None:
    await house.set_aside()
    for _ in range(2):
        await house.reservations.settle(house.job, 90.0)
    assert house.billing.reservations["job-1"].settled == 1.5 and not house.registry.holds.holders()


async def test_a_job_that_never_ran_pays_nothing(house: House) -> None:
    await house.set_aside()
    await house.reservations.settle(house.job, 0.0)
    assert house.billing.in_state("RELEASED") == {"job-1"} and not house.registry.holds.holders()


async def test_what_ran_is_booked_although_its_reservation_was_released(house: House) -> None:
    await house.set_aside()
    await house.billing.release("proj-1", "job-1")
    await house.reservations.settle(house.job, 90.0)
    assert house.billing.reservations["job-1"].settled == 1.5 and not house.registry.holds.holders()


async def test_an_end_is_settled_though_billing_knows_no_reservation(house: House) -> None:
    await house.set_aside()
    house.billing.reservations.clear()
    await house.reservations.settle(house.job, 90.0)
    assert house.billing.in_state("SETTLED") == set() and not house.registry.holds.holders()


async def test_an_end_waits_while_billing_is_away(house: House) -> None:
    await house.set_aside()
    house.billing.away.add("settle")
    with pytest.raises(Unavailable):
        await house.reservations.settle(house.job, 90.0)
    assert house.registry.holds.holders() == ["job-1"]


async def test_a_create_that_failed_is_refused_for_its_own_reason(house: House) -> None:
    await house.set_aside()
    house.billing.away.add("release")
    await house.reservations.try_release("proj-1", "job-1")  # it falls by itself
    house.billing.away.clear()
    await house.reservations.try_release("proj-1", "job-1")
    assert house.billing.in_state("RELEASED") == {"job-1"} and not house.registry.holds.holders()
