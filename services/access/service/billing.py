"""BillingService and BillingInternalService: prices, quotes, reservations and the ledger."""

from __future__ import annotations

from typing import Any

from google.protobuf.empty_pb2 import Empty

from modelry.billing.v1 import billing_pb2, billing_pb2_grpc, internal_pb2, internal_pb2_grpc
from modelry.common.v1 import common_pb2
from services.access.operations import audit, billing
from services.access.operations.context import ServiceContext
from services.access.service import messages
from services.chassis.auth import current
from services.chassis.clock import now
from services.chassis.data import PageQuery
from services.chassis.errors import Invalid, ModelryError
from services.chassis.proto_values import amount_of


class BillingService(billing_pb2_grpc.BillingServiceServicer):
    """The methods that people and programs call."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def ListPrices(self, request: billing_pb2.ListPricesRequest, call: Any) -> billing_pb2.ListPricesResponse:
        """List the prices; the list is short enough for one page, and pages of any size are cut from it."""
        limit = PageQuery.of(request).limit
        start = _position(request.page_token)
        prices = await billing.list_prices(self._context)
        shown = [messages.price_message(price) for price in prices[start : start + limit]]
        more = start + limit < len(prices)
        return billing_pb2.ListPricesResponse(prices=shown, next_page_token=str(start + limit) if more else "")

    async def SetPrice(self, request: billing_pb2.SetPriceRequest, call: Any) -> billing_pb2.Price:
        caller = current()
        try:
            amount = amount_of(request.amount, "amount")
            price = await billing.set_price(caller, request.item, amount, self._context, now())
        except ModelryError as error:
            await audit.note_refusal(caller, "SetPrice", request.item[:128], error.reason, self._context, now())
            raise
        return messages.price_message(price)

    async def GetQuote(self, request: billing_pb2.GetQuoteRequest, call: Any) -> common_pb2.Quote:
        return messages.quote_message(await billing.get_quote(current(), request.quote, self._context, now()))

    async def ListUsageRecords(
        self, request: billing_pb2.ListUsageRecordsRequest, call: Any
    ) -> billing_pb2.ListUsageRecordsResponse:
        page = await billing.list_usage(current(), PageQuery.of(request), self._context)
        shown = [messages.usage_message(record) for record in page.items]
        return billing_pb2.ListUsageRecordsResponse(usage_records=shown, next_page_token=page.next_page_token)


class BillingInternalService(internal_pb2_grpc.BillingInternalServiceServicer):
    """The methods for stages; the project is the caller's."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def CreateQuote(self, request: internal_pb2.CreateQuoteRequest, call: Any) -> common_pb2.Quote:
        items = [messages.quote_item(item) for item in request.items]
        quote = await billing.create_quote(
            current(), items, request.spec_digest, list(request.notes), self._context, now()
        )
        return messages.quote_message(quote)

    async def Reserve(self, request: internal_pb2.ReserveRequest, call: Any) -> internal_pb2.Reservation:
        command = billing.Reserve(
            request.reservation_id, request.item, request.quantity, request.quote_id, request.spec_digest
        )
        return messages.reservation_message(await billing.reserve(current(), command, self._context, now()))

    async def Confirm(self, request: internal_pb2.ConfirmRequest, call: Any) -> internal_pb2.Reservation:
        reservation = await billing.confirm(current(), request.reservation_id, self._context, now())
        return messages.reservation_message(reservation)

    async def Settle(self, request: internal_pb2.SettleRequest, call: Any) -> internal_pb2.Reservation:
        reservation = await billing.settle(current(), request.reservation_id, request.quantity, self._context, now())
        return messages.reservation_message(reservation)

    async def Release(self, request: internal_pb2.ReleaseRequest, call: Any) -> Empty:
        await billing.release(current(), request.reservation_id, self._context, now())
        return Empty()

    async def RecordUsage(self, request: internal_pb2.RecordUsageRequest, call: Any) -> Empty:
        usage = billing.Usage(request.record_id, request.item, request.quantity, request.resource_id, request.key_id)
        await billing.record_usage(current(), usage, self._context, now())
        return Empty()


def _position(page_token: str) -> int:
    if page_token and not (page_token.isdecimal() and len(page_token) < 6):
        raise Invalid("page_token is not one that this list gave out.", field="page_token")
    return int(page_token or 0)
