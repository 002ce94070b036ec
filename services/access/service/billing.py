"""BillingService and BillingInternalService: prices, quotes, reservations and the ledger."""

from __future__ import annotations

from typing import Any

from google.protobuf.empty_pb2 import Empty

from modelry.billing.v1 import billing_pb2, billing_pb2_grpc, internal_pb2, internal_pb2_grpc
from modelry.common.v1 import common_pb2
from services.access.operations import audit, billing
from services.access.service import messages
from services.access.service.context import Parts
from services.chassis.auth import current
from services.chassis.clock import now
from services.chassis.errors import Invalid, ModelryError
from services.chassis.proto_values import amount_of


class BillingService(billing_pb2_grpc.BillingServiceServicer):
    """The methods that people and programs call."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def ListPrices(self, request: billing_pb2.ListPricesRequest, context: Any) -> billing_pb2.ListPricesResponse:
        """The price list; it is short enough for one page, and pages of any size are cut from it."""
        limit = messages.page_query(request).limit
        start = _position(request.page_token)
        prices = await billing.list_prices(self._parts.read())
        shown = [messages.price_message(price) for price in prices[start : start + limit]]
        more = start + limit < len(prices)
        return billing_pb2.ListPricesResponse(prices=shown, next_page_token=str(start + limit) if more else "")

    async def SetPrice(self, request: billing_pb2.SetPriceRequest, context: Any) -> billing_pb2.Price:
        """Set a price from now on."""
        caller = current()
        try:
            amount = amount_of(request.amount, "amount")
            price = await billing.set_price(caller, request.item, amount, self._parts.write(), now())
        except ModelryError as error:
            await audit.note_refusal(caller, "SetPrice", request.item[:128], error.reason, self._parts.write(), now())
            raise
        return messages.price_message(price)

    async def GetQuote(self, request: billing_pb2.GetQuoteRequest, context: Any) -> common_pb2.Quote:
        """A quote that has not expired."""
        return messages.quote_message(await billing.get_quote(current(), request.quote, self._parts.read(), now()))

    async def ListUsageRecords(
        self, request: billing_pb2.ListUsageRecordsRequest, context: Any
    ) -> billing_pb2.ListUsageRecordsResponse:
        """The project's ledger, newest first."""
        page = await billing.list_usage(current(), messages.page_query(request), self._parts.read())
        shown = [messages.usage_message(record) for record in page.items]
        return billing_pb2.ListUsageRecordsResponse(usage_records=shown, next_page_token=page.next_page_token)


class BillingInternalService(internal_pb2_grpc.BillingInternalServiceServicer):
    """What stages ask; the project is the caller's."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def CreateQuote(self, request: internal_pb2.CreateQuoteRequest, context: Any) -> common_pb2.Quote:
        """Price an estimate and keep it for ten minutes."""
        items = [messages.quote_item(item) for item in request.items]
        quote = await billing.create_quote(
            current(), items, request.spec_digest, list(request.notes), self._parts.write(), now()
        )
        return messages.quote_message(quote)

    async def Reserve(self, request: internal_pb2.ReserveRequest, context: Any) -> internal_pb2.Reservation:
        """Set an amount aside."""
        cmd = billing.Reserve(
            request.reservation_id, request.item, request.quantity, request.quote_id, request.spec_digest
        )
        parts = self._parts
        return messages.reservation_message(await billing.reserve(current(), cmd, parts.hold, parts.write(), now()))

    async def Confirm(self, request: internal_pb2.ConfirmRequest, context: Any) -> internal_pb2.Reservation:
        """Keep a reservation until it is settled or released."""
        reservation = await billing.confirm(current(), request.reservation_id, self._parts.write(), now())
        return messages.reservation_message(reservation)

    async def Settle(self, request: internal_pb2.SettleRequest, context: Any) -> internal_pb2.Reservation:
        """Book what was really used."""
        reservation = await billing.settle(
            current(), request.reservation_id, request.quantity, self._parts.write(), now()
        )
        return messages.reservation_message(reservation)

    async def Release(self, request: internal_pb2.ReleaseRequest, context: Any) -> Empty:
        """Free a reservation without booking."""
        await billing.release(current(), request.reservation_id, self._parts.write(), now())
        return Empty()

    async def RecordUsage(self, request: internal_pb2.RecordUsageRequest, context: Any) -> Empty:
        """Book usage that has no reservation."""
        usage = billing.Usage(request.record_id, request.item, request.quantity, request.resource_id, request.key_id)
        await billing.record_usage(current(), usage, self._parts.write(), now())
        return Empty()


def _position(page_token: str) -> int:
    if page_token and not (page_token.isdecimal() and len(page_token) < 6):
        raise Invalid("page_token is not one that this list gave out.", field="page_token")
    return int(page_token or 0)
