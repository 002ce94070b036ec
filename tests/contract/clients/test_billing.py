"""Money: quotes, reservations and usage."""

from __future__ import annotations

from decimal import Decimal

import pytest

from services.chassis.errors import Invalid, NotFound, WrongState
from services.chassis.proto_values import amount_of
from services.clients.billing import UsageRecord
from tests.contract.clients.world import OTHER, PROJECT, World

pytestmark = [pytest.mark.contract, pytest.mark.asyncio(loop_scope="session")]
ITEM = "training-minute"


async def reserve(world: World, name: str, quote: str = "", digest: str = "spec") -> Decimal:
    return await world.billing.reserve(PROJECT, name, ITEM, 10, quote, digest)


async def test_a_quote_is_priced_and_its_price_is_held(world: World, name: str) -> None:
    await world.set_price(ITEM, "0.0000000005")
    quote = await world.billing.quote(PROJECT, ITEM, (1, 3), "spec", "Fine-tune tiny", ["A note."])
    assert (quote.items[0].description, quote.items[0].unit, list(quote.notes)) == ("Fine-tune tiny", ITEM, ["A note."])
    # 0.5 and 1.5 billionths, half up.
    assert [amount_of(money, "m") for money in (quote.low, quote.high)] == [Decimal("1e-9"), Decimal("2e-9")]
    await world.set_price(ITEM, "2")
    quote = await world.billing.quote(PROJECT, ITEM, (1, 3), "spec", "Fine-tune tiny")
    await world.set_price(ITEM, "3")
    assert await reserve(world, name, quote.id) == 2, "the price of the quote"
    assert await reserve(world, f"{name}-now") == 3, "the present price"
    assert await reserve(world, name) == 2, "a repeat has the first price"


@pytest.mark.parametrize("digest", ["spec", "another"])
async def test_a_quote_for_another_spec_or_project_is_stale(world: World, name: str, digest: str) -> None:
    project = OTHER if digest == "spec" else PROJECT
    quote = await world.billing.quote(project, ITEM, (1, 3), "spec", "Fine-tune tiny")
    with pytest.raises(WrongState) as refused:
        await reserve(world, name, quote.id, digest)
    assert refused.value.reason == "QUOTE_STALE"


async def test_what_is_on_no_price_list_is_refused(world: World, name: str) -> None:
    with pytest.raises(Invalid):
        await world.billing.quote(PROJECT, "nothing", (1, 1), "spec", "")
    with pytest.raises(Invalid):
        await world.billing.reserve(PROJECT, name, "nothing", 1, "", "spec")
    with pytest.raises(Invalid):
        record = UsageRecord(id=name, item="nothing", quantity=1, resource_id="dep-1")
        await world.billing.record_usage(PROJECT, record)


async def test_a_reservation_is_confirmed_and_settled_once(world: World, name: str) -> None:
    await reserve(world, name)
    for quantity in (7.0, 8.0):
        await world.billing.confirm(PROJECT, name)
        await world.billing.settle(PROJECT, name, quantity)
    assert await world.booked(name) == [7.0]
    await world.billing.release(PROJECT, name)
    assert await world.booked(name) == [7.0], "what is booked stays booked"


async def test_a_released_reservation_is_not_confirmed_and_comes_back(world: World, name: str) -> None:
    await reserve(world, name)
    for _ in range(2):
        await world.billing.release(PROJECT, name)
    with pytest.raises(WrongState) as refused:
        await world.billing.confirm(PROJECT, name)
    assert refused.value.reason == "RESERVATION_NOT_OPEN"
    await reserve(world, name)
    await world.billing.confirm(PROJECT, name)


async def test_what_was_used_is_booked_although_it_was_released(world: World, name: str) -> None:
    await reserve(world, name)
    await world.billing.release(PROJECT, name)
    for quantity in (7.0, 9.0):
        await world.billing.settle(PROJECT, name, quantity)
    assert await world.booked(name) == [7.0]


async def test_nobody_elses_reservation_is_found(world: World, name: str) -> None:
    await reserve(world, name)
    for project, reservation in ((OTHER, name), (PROJECT, f"{name}-none")):
        for call in (world.billing.confirm(project, reservation), world.billing.settle(project, reservation, 1)):
            with pytest.raises(NotFound):
                await call
        await world.billing.release(project, reservation)  # nothing is set aside, so all is free
    await world.billing.confirm(PROJECT, name)


async def test_usage_is_booked_once_by_its_id(world: World, name: str) -> None:
    for quantity in (5.0, 6.0):
        record = UsageRecord(id=name, item="input-token", quantity=quantity, resource_id="dep-1", key_id="key-1")
        await world.billing.record_usage(PROJECT, record)
    assert await world.booked(name) == [5.0]
