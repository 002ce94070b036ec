"""Prices, quotes, reservations and usage: money is set aside before work and booked after it.

Amounts are decimals with nine places, as `modelry.common.v1.Money` has them.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from services.chassis.errors import Invalid, WrongState
from services.chassis.money import ZERO, cost_of
from services.chassis.transitions import Transition

ITEMS = ("training-minute", "evaluation-minute", "replica-hour", "input-token", "output-token")
"""What has a price, in the order of the price list."""

QUOTE_LIFE = timedelta(minutes=10)
_MOST = Decimal(10) ** 15
_MOST_QUANTITY = 1e15
_MOST_ITEMS = 100


def check_item(item: str, field: str) -> str:
    """Return the item, if the price list has it. Raises: Invalid."""
    if item not in ITEMS:
        raise Invalid(f"{field} {item!r} is not on the price list; it has {', '.join(ITEMS)}.", field=field)
    return item


def check_quantity(quantity: float, field: str) -> float:
    """Return the quantity, if it is a finite number of 0 or more. Raises: Invalid."""
    if not math.isfinite(quantity) or not 0 <= quantity <= _MOST_QUANTITY:
        raise Invalid(f"{field} must be a number from 0 to {_MOST_QUANTITY:g}.", field=field)
    return quantity


@dataclass(frozen=True)
class Price:
    """What one unit of an item costs. `id` is the item; prices belong to the installation."""

    id: str
    amount: Decimal
    set_time: datetime
    project: str = ""
    version: int = 1


def check_amount(amount: Decimal, field: str) -> Decimal:
    """Return the amount, if it is 0 or more and small enough to count with. Raises: Invalid."""
    if not 0 <= amount <= _MOST:
        raise Invalid(f"{field} must be from 0 to {_MOST:f}.", field=field)
    return amount


@dataclass(frozen=True)
class QuoteItem:
    """One line of a quote. `unit` is an item of the price list; quantities are in its units."""

    description: str
    unit: str
    quantity_low: float
    quantity_high: float
    unit_price: Decimal = ZERO
    low: Decimal = ZERO
    high: Decimal = ZERO

    def priced(self, unit_price: Decimal) -> QuoteItem:
        """Return it at a price."""
        low, high = cost_of(self.quantity_low, unit_price), cost_of(self.quantity_high, unit_price)
        return replace(self, unit_price=unit_price, low=low, high=high)


@dataclass(frozen=True)
class Quote:
    """What a piece of work would cost; its prices are held until it expires."""

    id: str
    project: str
    items: tuple[QuoteItem, ...]
    spec_digest: str
    notes: tuple[str, ...]
    create_time: datetime
    expire_time: datetime
    version: int = 1

    @property
    def low(self) -> Decimal:
        """Smallest expected total."""
        return sum((item.low for item in self.items), ZERO)

    @property
    def high(self) -> Decimal:
        """Largest expected total."""
        return sum((item.high for item in self.items), ZERO)

    def price_for(self, item: str, spec_digest: str, now: datetime) -> Decimal:
        """Return the price that it holds for an item of this spec. Raises: WrongState(reason="QUOTE_STALE")."""
        if self.expire_time <= now:
            raise stale(self.id, "it has expired")
        if self.spec_digest != spec_digest:
            raise stale(self.id, "it was made for another request")
        for line in self.items:
            if line.unit == item:
                return line.unit_price
        raise stale(self.id, f"it has no line for {item}")


def stale(quote_id: str, why: str) -> WrongState:
    """Return the refusal of a quote that cannot be used."""
    message = f"The quote {quote_id!r} cannot be used: {why}. Ask for a new quote and use that."
    return WrongState(message, reason="QUOTE_STALE", metadata={"quote": quote_id})


def make_quote(
    quote_id: str,
    project: str,
    items: Sequence[QuoteItem],
    prices: dict[str, Decimal],
    spec_digest: str,
    notes: Sequence[str],
    now: datetime,
) -> Quote:
    """Return a new quote at the present prices. Raises: Invalid, naming the field."""
    if len(items) > _MOST_ITEMS:
        raise Invalid(f"items has over {_MOST_ITEMS} lines.", field="items")
    priced = []
    for index, item in enumerate(items):
        check_item(item.unit, f"items[{index}].unit")
        check_quantity(item.quantity_low, f"items[{index}].quantity_low")
        check_quantity(item.quantity_high, f"items[{index}].quantity_high")
        if item.quantity_low > item.quantity_high:
            path = f"items[{index}].quantity_low"
            raise Invalid(f"{path} is above quantity_high.", field=path)
        priced.append(item.priced(prices.get(item.unit, ZERO)))
    return Quote(quote_id, project, tuple(priced), spec_digest, tuple(notes), now, now + QUOTE_LIFE)


class ReservationState(enum.Enum):
    """Where money set aside stands."""

    HELD = 1
    CONFIRMED = 2
    SETTLED = 3
    RELEASED = 4


_HELD, _CONFIRMED = ReservationState.HELD, ReservationState.CONFIRMED
_SETTLED, _RELEASED = ReservationState.SETTLED, ReservationState.RELEASED
CONFIRM = Transition("confirm", frozenset({_HELD}), _CONFIRMED)
SETTLE = Transition("settle", frozenset({_HELD, _CONFIRMED, _RELEASED}), _SETTLED)
RELEASE = Transition("release", frozenset({_HELD, _CONFIRMED}), _RELEASED)
FALL = Transition("fall", frozenset({_HELD}), _RELEASED)
RENEW = Transition("renew", frozenset({_RELEASED}), _HELD)


@dataclass(frozen=True)
class Reservation:
    """Money set aside for one job, evaluation or deployment, whose id it has.

    `fallen`: it was released because nobody confirmed it in time, and comes back if its owner still wants it.
    `end_time`: when its owner's work ended, if the bus said so before the owner settled.
    """

    id: str
    project: str
    item: str
    quantity: float
    unit_price: Decimal
    amount: Decimal
    state: ReservationState
    create_time: datetime
    update_time: datetime
    hold_until: datetime
    settled: Decimal = ZERO
    fallen: bool = False
    end_time: datetime | None = None
    key_id: str = ""
    version: int = 1

    @property
    def open(self) -> bool:
        """Whether money is set aside now."""
        return self.state in (_HELD, _CONFIRMED)

    def apply(self, transition: Transition[ReservationState], now: datetime) -> Reservation:
        """Return it in the transition's target state. Raises: WrongState."""
        transition.check(self.state, "reservation", self.id, "RESERVATION_NOT_OPEN")
        fallen = transition is FALL
        return replace(self, state=transition.target, fallen=fallen, version=self.version + 1, update_time=now)

    def renew(self, now: datetime, hold: timedelta) -> Reservation:
        """Set the amount aside once more, after it was released without a booking."""
        return replace(self.apply(RENEW, now), hold_until=now + hold, end_time=None)

    def confirm(self, now: datetime) -> Reservation:
        """Keep it until it is settled or released. One that fell comes back; asking again changes nothing."""
        if self.state in (_CONFIRMED, _SETTLED):
            return self
        if not self.fallen:
            return self.apply(CONFIRM, now)
        return replace(self.apply(RENEW, now), state=_CONFIRMED)

    def settle(self, quantity: float, now: datetime) -> Reservation:
        """Book it at the price that was held. Asking again changes nothing.

        What was used is paid for, also where the money was freed meanwhile: only the owner knows whether it was used.
        """
        if self.state is _SETTLED:
            return self
        cost = cost_of(check_quantity(quantity, "quantity"), self.unit_price)
        return replace(self.apply(SETTLE, now), settled=cost)

    def release(self, now: datetime) -> Reservation:
        """Free it without a booking. Asking again, or after the booking, changes nothing."""
        return self.apply(RELEASE, now) if self.open else self

    def usage(self, record_id: str, quantity: float, now: datetime) -> UsageRecord:
        """Return the line of the ledger for what was really used, once it is settled."""
        item, cost, key_id = self.item, self.settled, self.key_id
        return UsageRecord(record_id, self.project, item, quantity, cost, self.id, key_id, create_time=now)

    def note_end(self, now: datetime) -> Reservation:
        """Return it with the moment at which its owner's work ended."""
        return replace(self, end_time=now, version=self.version + 1, update_time=now)


@dataclass(frozen=True)
class UsageRecord:
    """Something that was used, and what it cost. Never changed afterwards."""

    id: str
    project: str
    item: str
    quantity: float
    cost: Decimal
    resource_id: str
    key_id: str
    create_time: datetime
    version: int = 1
