"""Money over gRPC: prices, quotes, reservations that fall, and what the bus says of their owners."""

from __future__ import annotations

import asyncio
import time

import pytest

from modelry.billing.v1 import billing_pb2, internal_pb2
from modelry.common.v1 import common_pb2
from services.access.domain.projects import DEFAULT_ID
from services.access.store import AccessUnit
from services.chassis.auth import Role
from services.chassis.data import UnitOfWork
from services.chassis.errors import Denied, Invalid, NotFound, WrongState
from services.chassis.events import Event

pytestmark = pytest.mark.integration
STATES = internal_pb2.Reservation


def euros(text):
    units, _, nanos = text.partition(".")
    return common_pb2.Money(units=int(units), nanos=int(nanos.ljust(9, "0") or 0))


async def set_price(house, item="training-minute", amount="0.5", **caller):
    request = billing_pb2.SetPriceRequest(item=item, amount=euros(amount))
    return await house.billing.SetPrice(request, metadata=house.key(**caller))


async def quote(house, low=2.0, high=3.0):
    items = [common_pb2.Quote.Item(description="a", unit="training-minute", quantity_low=low, quantity_high=high)]
    request = internal_pb2.CreateQuoteRequest(items=items, spec_digest="digest", notes=["a note"])
    return await house.billing_internal.CreateQuote(request, metadata=house.service())


async def reserve(house, reservation_id="ftjob-1", **fields):
    values = {"item": "training-minute", "quantity": 3, "spec_digest": "digest", **fields}
    request = internal_pb2.ReserveRequest(reservation_id=reservation_id, **values)
    return await house.billing_internal.Reserve(request, metadata=house.service())


async def confirm(house, reservation_id="ftjob-1"):
    request = internal_pb2.ConfirmRequest(reservation_id=reservation_id)
    return await house.billing_internal.Confirm(request, metadata=house.service())


async def settle(house, quantity, reservation_id="ftjob-1"):
    request = internal_pb2.SettleRequest(reservation_id=reservation_id, quantity=quantity)
    return await house.billing_internal.Settle(request, metadata=house.service())


async def ledger(house, **fields):
    request = billing_pb2.ListUsageRecordsRequest(**fields)
    page = await house.billing.ListUsageRecords(request, metadata=house.key(role=Role.VIEWER))
    return list(page.usage_records)


async def state_of(house, reservation_id="ftjob-1"):
    """The state in the database: no method shows it without changing it."""
    async with AccessUnit(house.database, write=False) as uow:
        found = await uow.reservations.by_id(reservation_id)
        return found.state.name if found is not None else ""


async def until_state(house, state, reservation_id="ftjob-1", seconds=10.0):
    end = time.monotonic() + seconds
    while await state_of(house, reservation_id) != state and time.monotonic() < end:
        await asyncio.sleep(0.05)
    return await state_of(house, reservation_id) == state


async def test_all_prices_are_zero_until_set(any_house):
    listed = await any_house.billing.ListPrices(billing_pb2.ListPricesRequest(), metadata=any_house.key())
    assert [(price.item, price.amount.units, price.amount.nanos) for price in listed.prices] == [
        ("training-minute", 0, 0), ("evaluation-minute", 0, 0), ("replica-hour", 0, 0), ("input-token", 0, 0),
        ("output-token", 0, 0),
    ]  # fmt: skip
    assert not listed.prices[0].HasField("set_time")
    for amount in ("0.5", "0.75"):
        assert (await set_price(any_house, amount=amount)).amount == euros(amount)
    first = await any_house.billing.ListPrices(billing_pb2.ListPricesRequest(page_size=3), metadata=any_house.key())
    assert first.prices[0].amount == euros("0.75")
    request = billing_pb2.ListPricesRequest(page_size=3, page_token=first.next_page_token)
    rest = await any_house.billing.ListPrices(request, metadata=any_house.key())
    assert ([price.item for price in rest.prices], rest.next_page_token) == (["input-token", "output-token"], "")


async def test_a_price_is_set_by_an_admin_and_must_be_one(house):
    with pytest.raises(Denied):
        await set_price(house, role=Role.OWNER)
    with pytest.raises(Invalid) as caught:
        await set_price(house, item="gold")
    assert caught.value.field == "item"
    request = billing_pb2.SetPriceRequest(item="training-minute", amount=common_pb2.Money(units=-1))
    with pytest.raises(Invalid) as caught:
        await house.billing.SetPrice(request, metadata=house.key())
    assert caught.value.field == "amount"


async def test_a_quote_holds_its_price_for_its_spec(any_house):
    await set_price(any_house, amount="0.5")
    quoted = await quote(any_house)
    assert (quoted.low, quoted.high, list(quoted.notes)) == (euros("1"), euros("1.5"), ["a note"])
    await set_price(any_house, amount="9")
    held = await reserve(any_house, quote_id=quoted.id)
    assert (held.state, held.amount, held.unit_price) == (STATES.HELD, euros("1.5"), euros("0.5"))
    with pytest.raises(WrongState) as caught:
        await reserve(any_house, "ftjob-2", quote_id=quoted.id, spec_digest="another")
    assert caught.value.reason == "QUOTE_STALE"
    with pytest.raises(WrongState) as caught:
        await reserve(any_house, "ftjob-2", quote_id="quote-none")
    assert caught.value.reason == "QUOTE_STALE"
    shown = await any_house.billing.GetQuote(billing_pb2.GetQuoteRequest(quote=quoted.id), metadata=any_house.key())
    assert shown == quoted


async def test_the_same_reservation_twenty_times_is_one_and_is_booked_once(any_house):
    await set_price(any_house, amount="0.5")
    answers = await asyncio.gather(*(reserve(any_house) for _ in range(20)))
    assert {(answer.state, answer.amount.units) for answer in answers} == {(STATES.HELD, 1)}
    assert {(await confirm(any_house)).state for _ in range(2)} == {STATES.CONFIRMED}
    settled = await asyncio.gather(*(settle(any_house, 2.5) for _ in range(10)))
    assert {(answer.state, answer.settled.units, answer.settled.nanos) for answer in settled} == {
        (STATES.SETTLED, 1, 250_000_000)
    }
    (record,) = await ledger(any_house, filter="resource_id = ftjob-1")
    assert (record.item, record.quantity, record.cost) == ("training-minute", 2.5, euros("1.25"))


async def test_releasing_is_idempotent_and_books_nothing(any_house):
    await reserve(any_house)
    for reservation_id in ("ftjob-1", "ftjob-1", "ftjob-unknown"):
        request = internal_pb2.ReleaseRequest(reservation_id=reservation_id)
        await any_house.billing_internal.Release(request, metadata=any_house.service())
    assert await ledger(any_house) == []
    with pytest.raises(WrongState):
        await confirm(any_house)


async def test_another_projects_reservation_does_not_exist(any_house):
    await reserve(any_house)
    for request, call in (
        (internal_pb2.ConfirmRequest(reservation_id="ftjob-1"), any_house.billing_internal.Confirm),
        (internal_pb2.SettleRequest(reservation_id="ftjob-1"), any_house.billing_internal.Settle),
    ):
        with pytest.raises(NotFound):
            await call(request, metadata=any_house.service("proj-other"))


async def test_what_nobody_confirms_falls_and_comes_back_for_its_owner(house):
    await set_price(house)
    await reserve(house)
    await reserve(house, "ftjob-kept")
    await confirm(house, "ftjob-kept")
    assert await until_state(house, "RELEASED")
    assert await state_of(house, "ftjob-kept") == "CONFIRMED"
    assert (await reserve(house)).state == STATES.HELD
    assert await until_state(house, "RELEASED")
    assert (await settle(house, 2)).settled == euros("1")


async def test_usage_without_a_reservation_is_booked_once(any_house):
    await set_price(any_house, "output-token", "0.000002")
    request = internal_pb2.RecordUsageRequest(
        record_id="usage-1", item="output-token", quantity=1500, resource_id="dep-1", key_id="key-1"
    )
    await asyncio.gather(
        *(any_house.billing_internal.RecordUsage(request, metadata=any_house.service()) for _ in range(5))
    )
    (record,) = await ledger(any_house, filter="key_id = key-1")
    assert (record.id, record.cost) == ("usage-1", euros("0.003"))


async def emit(house, happening, *, terminal=False, reservation_id="ftjob-1"):
    async with UnitOfWork(house.database) as uow:  # the job is another service's
        uow.emit(Event(DEFAULT_ID, "job", reservation_id, happening, happening.upper(), terminal=terminal))
        await uow.commit()


async def test_the_jobs_event_confirms_what_its_service_could_not(house):
    await reserve(house)
    await emit(house, "queued")
    assert await until_state(house, "CONFIRMED")


async def pass_every_window(house):
    """Return when what was set aside and unconfirmed just now has fallen: all older windows are over then."""
    await reserve(house, "ftjob-marker")
    assert await until_state(house, "RELEASED", "ftjob-marker")


@pytest.mark.parametrize("before", ["HELD", "CONFIRMED", "RELEASED"])
async def test_a_stage_that_was_away_longer_than_every_window_is_paid(house, before):
    await set_price(house)
    await reserve(house)
    if before == "CONFIRMED":
        await confirm(house)
    if before == "RELEASED":
        request = internal_pb2.ReleaseRequest(reservation_id="ftjob-1")
        await house.billing_internal.Release(request, metadata=house.service())
    await emit(house, "failed", terminal=True)
    await emit(house, "queued", reservation_id="ftjob-later")  # behind the end, on the same durable
    for _ in range(2):
        await pass_every_window(house)
    assert await state_of(house) == ("CONFIRMED" if before == "CONFIRMED" else "RELEASED")
    assert (await settle(house, 2)).settled == euros("1")
    await settle(house, 2)
    assert [(record.resource_id, record.cost) for record in await ledger(house)] == [("ftjob-1", euros("1"))]


async def test_an_end_that_nobody_settled_is_told_once(house, caplog):
    await reserve(house)
    await confirm(house)
    await emit(house, "failed", terminal=True)
    told = lambda: [one for one in caplog.messages if "ftjob-1" in one and "not settled" in one]  # noqa: E731
    for _ in range(20):
        await pass_every_window(house)
        if told():
            break
    await pass_every_window(house)
    assert len(told()) == 1
    assert await state_of(house) == "CONFIRMED"
