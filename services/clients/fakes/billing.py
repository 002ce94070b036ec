"""The ledger in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from modelry.common.v1 import common_pb2
from services.chassis.errors import Invalid, NotFound, WrongState
from services.chassis.money import cost_of
from services.chassis.proto_values import amount_of, money_of
from services.clients.billing import BillingClient, UsageRecord
from services.clients.fakes.memory import Outages

ITEMS = ("training-minute", "evaluation-minute", "replica-hour", "input-token", "output-token")


@dataclass
class FakeReservation:
    """Money set aside. `state` is HELD, CONFIRMED, SETTLED or RELEASED; `settled` is the quantity that was booked."""

    project: str
    item: str
    quantity: float
    unit_price: Decimal
    state: str = "HELD"
    settled: float = 0.0


class FakeBilling(Outages, BillingClient):
    """Quotes, reserves and books at the prices that a test sets (0 without).

    Attributes:
        records: usage booked without a reservation, by the record's id.
    """

    def __init__(self) -> None:
        super().__init__()
        self.prices: dict[str, Decimal] = dict.fromkeys(ITEMS, Decimal(0))
        self.quotes: dict[tuple[str, str], tuple[common_pb2.Quote, str]] = {}
        self.reservations: dict[str, FakeReservation] = {}
        self.records: dict[str, UsageRecord] = {}

    def in_state(self, state: str) -> set[str]:
        """Ids of the reservations in a state."""
        return {name for name, one in self.reservations.items() if one.state == state}

    async def quote(
        self,
        project: str,
        item: str,
        quantities: tuple[float, float],
        spec_digest: str,
        description: str,
        notes: Sequence[str] = (),
    ) -> common_pb2.Quote:
        """See `BillingClient.quote`."""
        self._ask("quote")
        price = self._price(item)
        low, high = (money_of(cost_of(quantity, price)) for quantity in quantities)
        line = common_pb2.Quote.Item(
            description=description,
            unit=item,
            quantity_low=quantities[0],
            quantity_high=quantities[1],
            unit_price=money_of(price),
            low=low,
            high=high,
        )
        quote = common_pb2.Quote(id=f"quote-{len(self.quotes) + 1}", items=[line], low=low, high=high, notes=notes)
        self.quotes[project, quote.id] = (quote, spec_digest)
        return quote

    async def reserve(
        self, project: str, reservation_id: str, item: str, quantity: float, quote_id: str, spec_digest: str
    ) -> Decimal:
        """See `BillingClient.reserve`."""
        self._ask("reserve")
        price = self._price(item)
        known = self._find(project, reservation_id)
        if known is None:
            if quote_id:
                price = self._quoted(project, quote_id, spec_digest)
            known = self.reservations[reservation_id] = FakeReservation(project, item, quantity, price)
        elif known.state == "RELEASED":
            known.state = "HELD"
        return known.unit_price

    async def confirm(self, project: str, reservation_id: str) -> None:
        """See `BillingClient.confirm`."""
        self._ask("confirm")
        known = self._get(project, reservation_id)
        if known.state != "SETTLED":
            self._refuse_released(known, reservation_id, "confirm")
            known.state = "CONFIRMED"

    async def settle(self, project: str, reservation_id: str, quantity: float) -> None:
        """See `BillingClient.settle`."""
        self._ask("settle")
        known = self._get(project, reservation_id)
        if known.state != "SETTLED":
            known.state, known.settled = "SETTLED", quantity

    async def release(self, project: str, reservation_id: str) -> None:
        """See `BillingClient.release`."""
        self._ask("release")
        known = self._find(project, reservation_id)
        if known is not None and known.state != "SETTLED":
            known.state = "RELEASED"

    async def record_usage(self, project: str, record: UsageRecord) -> None:
        """See `BillingClient.record_usage`."""
        self._ask("record_usage")
        self._price(record.item)
        self.records.setdefault(record.id, record)

    def _price(self, item: str) -> Decimal:
        if item not in self.prices:
            raise Invalid(f"item {item!r} is not on the price list.", field="item")
        return self.prices[item]

    def _quoted(self, project: str, quote_id: str, spec_digest: str) -> Decimal:
        quote, digest = self.quotes.get((project, quote_id), (None, ""))
        if quote is None or digest != spec_digest:
            raise WrongState(f"The quote {quote_id!r} cannot be used.", reason="QUOTE_STALE")
        return amount_of(quote.items[0].unit_price, "unit_price")

    def _find(self, project: str, reservation_id: str) -> FakeReservation | None:
        known = self.reservations.get(reservation_id)
        return known if known is not None and known.project == project else None

    def _get(self, project: str, reservation_id: str) -> FakeReservation:
        known = self._find(project, reservation_id)
        if known is None:
            raise NotFound.of("reservation", reservation_id)
        return known

    def _refuse_released(self, known: FakeReservation, reservation_id: str, verb: str) -> None:
        if known.state == "RELEASED":
            allowed = ["HELD", "CONFIRMED"]
            raise WrongState.of("reservation", reservation_id, verb, known.state, allowed, "RESERVATION_NOT_OPEN")
