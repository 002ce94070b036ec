"""What services ask of billing: quotes, reservations, and usage to book."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from modelry.billing.v1 import internal_pb2, internal_pb2_grpc
from modelry.common.v1 import common_pb2
from services.chassis.proto_values import amount_of
from services.chassis.rpc import Connections


@dataclass(frozen=True, kw_only=True)
class UsageRecord:
    """Something that was used without a reservation. `id` is booked once, however often it is sent."""

    id: str
    item: str
    quantity: float
    resource_id: str
    key_id: str = ""


class BillingClient:
    """Asks billing in the name of a project. A reservation has the id of what it pays for."""

    def __init__(self, connections: Connections) -> None:
        self._internal = internal_pb2_grpc.BillingInternalServiceStub(
            connections.channel("access", internal_pb2.DESCRIPTOR)
        )
        self._metadata = connections.metadata

    async def quote(
        self,
        project: str,
        item: str,
        quantities: tuple[float, float],
        spec_digest: str,
        description: str,
        notes: Sequence[str] = (),
    ) -> common_pb2.Quote:
        """Price an estimate of one item; the prices are held for ten minutes.

        Args:
            item: of the price list.
            quantities: lowest and highest expected, in the item's unit.
        Returns: the quote as the API shows it, for callers who hand it on.
        Raises: Invalid.
        """
        low, high = quantities
        line = common_pb2.Quote.Item(description=description, unit=item, quantity_low=low, quantity_high=high)
        request = internal_pb2.CreateQuoteRequest(items=[line], spec_digest=spec_digest, notes=notes)
        return await self._internal.CreateQuote(request, metadata=self._metadata(project))

    async def reserve(
        self, project: str, reservation_id: str, item: str, quantity: float, quote_id: str, spec_digest: str
    ) -> Decimal:
        """Set money aside; unconfirmed it falls after ten minutes. Idempotent by reservation id.

        Returns: the price of one unit, held from now on.
        Raises: Invalid; WrongState: QUOTE_STALE.
        """
        request = internal_pb2.ReserveRequest(
            reservation_id=reservation_id, item=item, quantity=quantity, quote_id=quote_id, spec_digest=spec_digest
        )
        answer = await self._internal.Reserve(request, metadata=self._metadata(project))
        return amount_of(answer.unit_price, "unit_price")

    async def confirm(self, project: str, reservation_id: str) -> None:
        """Keep a reservation until it is settled or released. Idempotent. Raises: NotFound, WrongState: released."""
        request = internal_pb2.ConfirmRequest(reservation_id=reservation_id)
        await self._internal.Confirm(request, metadata=self._metadata(project))

    async def settle(self, project: str, reservation_id: str, quantity: float) -> None:
        """Book what was used and free the rest, also if it was released. Idempotent. Raises: NotFound."""
        request = internal_pb2.SettleRequest(reservation_id=reservation_id, quantity=quantity)
        await self._internal.Settle(request, metadata=self._metadata(project))

    async def release(self, project: str, reservation_id: str) -> None:
        """Free a reservation without a booking; one that is unknown or ended is free already. Idempotent."""
        request = internal_pb2.ReleaseRequest(reservation_id=reservation_id)
        await self._internal.Release(request, metadata=self._metadata(project))

    async def record_usage(self, project: str, record: UsageRecord) -> None:
        """Book usage that has no reservation, once by the record's id. Raises: Invalid."""
        request = internal_pb2.RecordUsageRequest(
            record_id=record.id,
            item=record.item,
            quantity=record.quantity,
            resource_id=record.resource_id,
            key_id=record.key_id,
        )
        await self._internal.RecordUsage(request, metadata=self._metadata(project))
