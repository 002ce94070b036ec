"""Prices, quotes and reservations, against sums worked by hand."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from services.access.domain import money
from services.access.domain.money import QuoteItem, Reservation, ReservationState
from services.chassis.errors import Invalid, WrongState

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 24, 8, tzinfo=UTC)
HOLD = timedelta(minutes=10)
HELD, CONFIRMED = ReservationState.HELD, ReservationState.CONFIRMED
SETTLED, RELEASED = ReservationState.SETTLED, ReservationState.RELEASED


def reservation(**changes):
    made = Reservation(
        id="ftjob-1", project="proj-1", item="training-minute", quantity=30, unit_price=Decimal("0.12"),
        amount=Decimal("3.6"), state=HELD, create_time=NOW, update_time=NOW, hold_until=NOW + HOLD,
    )  # fmt: skip
    return replace(made, **changes)


def quote(**changes):
    items = [
        QuoteItem("training", "training-minute", 2, 3),
        QuoteItem("a replica", "replica-hour", 1, 1),
        QuoteItem("tokens", "input-token", 1000, 2000),
    ]
    prices = {"training-minute": Decimal("0.5"), "replica-hour": Decimal("1.25")}
    made = money.make_quote("quote-1", "proj-1", items, prices, "digest", ["estimated"], NOW)
    return replace(made, **changes)


def test_a_quote_adds_its_lines_up_and_takes_what_has_no_price_as_free():
    assert [(i.low, i.high) for i in quote().items] == [
        (Decimal("1.0"), Decimal("1.5")),
        (Decimal("1.25"), Decimal("1.25")),
        (Decimal(0), Decimal(0)),
    ]
    assert (quote().low, quote().high) == (Decimal("2.25"), Decimal("2.75"))
    assert quote().expire_time - NOW == timedelta(minutes=10)


def test_a_quote_holds_its_price():
    assert quote().price_for("training-minute", "digest", NOW) == Decimal("0.5")


@pytest.mark.parametrize(
    ("item", "digest", "moment"),
    [
        ("training-minute", "digest", NOW + timedelta(minutes=10)),
        ("training-minute", "another", NOW),
        ("evaluation-minute", "digest", NOW),
    ],
)
def test_a_stale_quote_is_refused(item, digest, moment):
    with pytest.raises(WrongState) as caught:
        quote().price_for(item, digest, moment)
    assert caught.value.reason == "QUOTE_STALE"


@pytest.mark.parametrize(
    ("item", "field"),
    [
        (QuoteItem("x", "gold", 1, 1), "items[1].unit"),
        (QuoteItem("x", "replica-hour", -1, 1), "items[1].quantity_low"),
        (QuoteItem("x", "replica-hour", 1, float("inf")), "items[1].quantity_high"),
        (QuoteItem("x", "replica-hour", 1, float("nan")), "items[1].quantity_high"),
        (QuoteItem("x", "replica-hour", 2, 1), "items[1].quantity_low"),
    ],
)
def test_an_estimate_that_cannot_be_is_refused_by_field(item, field):
    with pytest.raises(Invalid) as caught:
        money.make_quote("q", "p", [QuoteItem("y", "replica-hour", 1, 1), item], {}, "d", [], NOW)
    assert caught.value.field == field


OUTCOMES = {
    ("confirm", HELD): CONFIRMED,
    ("settle", HELD): SETTLED,
    ("settle", CONFIRMED): SETTLED,
    ("settle", RELEASED): SETTLED,
    ("release", HELD): RELEASED,
    ("release", CONFIRMED): RELEASED,
    ("fall", HELD): RELEASED,
    ("renew", RELEASED): HELD,
}
TRANSITIONS = [money.CONFIRM, money.SETTLE, money.RELEASE, money.FALL, money.RENEW]


@pytest.mark.parametrize("state", list(ReservationState))
@pytest.mark.parametrize("transition", TRANSITIONS, ids=lambda t: t.name)
def test_every_state_with_every_transition(state, transition):
    before = reservation(state=state)
    wanted = OUTCOMES.get((transition.name, state))
    if wanted is None:
        with pytest.raises(WrongState):
            before.apply(transition, NOW)
    else:
        after = before.apply(transition, NOW)
        assert (after.state, after.version, after.fallen) == (wanted, 2, transition is money.FALL)


def test_settling_books_what_was_used_at_the_price_that_was_held():
    settled = reservation(state=CONFIRMED).settle(12.5, NOW)
    assert (settled.state, settled.settled) == (SETTLED, Decimal("1.5"))


@pytest.mark.parametrize("state", [CONFIRMED, SETTLED])
def test_confirming_again_changes_nothing(state):
    before = reservation(state=state)
    assert before.confirm(NOW) is before


def test_settling_and_releasing_again_change_nothing():
    settled = reservation().settle(1, NOW)
    assert settled.settle(5, NOW) is settled
    assert settled.release(NOW) is settled
    released = reservation().release(NOW)
    assert released.release(NOW) is released


def test_what_fell_comes_back_for_its_owner():
    fallen = reservation().apply(money.FALL, NOW)
    assert fallen.confirm(NOW).state is CONFIRMED
    assert fallen.settle(10, NOW).settled == Decimal("1.2")
    renewed = fallen.renew(NOW, HOLD)
    assert (renewed.state, renewed.fallen, renewed.hold_until) == (HELD, False, NOW + HOLD)


def test_what_was_released_stays_released_until_somebody_used_it():
    released = reservation().release(NOW)
    with pytest.raises(WrongState):
        released.confirm(NOW)
    assert released.settle(10, NOW).settled == Decimal("1.2")
