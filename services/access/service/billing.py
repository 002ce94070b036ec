"""BillingService and BillingInternalService: prices, quotes, reservations and the ledger."""

from typing import Any

from google.protobuf.empty_pb2 import Empty

from modelry.billing.v1 import billing_pb2 as pb
from modelry.billing.v1 import billing_pb2_grpc, internal_pb2, internal_pb2_grpc
from modelry.common.v1 import common_pb2
from services.access.domain.money import Price, QuoteItem, Reservation, UsageRecord
from services.access.operations import billing
from services.access.operations.context import ServiceContext
from services.access.service.auditing import audited
from services.chassis.auth import current
from services.chassis.clock import now
from services.chassis.data import Page, PageQuery
from services.chassis.money import ZERO
from services.chassis.proto_values import amount_of, message_of, page_message, value_of


class BillingService(billing_pb2_grpc.BillingServiceServicer):
    """The methods that people and programs call."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def ListPrices(self, request: pb.ListPricesRequest, call: Any) -> pb.ListPricesResponse:
        """List the prices; the list is short enough for one page, and pages of any size are cut from it."""
        query = PageQuery.of(request)
        start, end = query.position, query.position + query.limit
        prices = await billing.list_prices(self._context)
        page = Page(tuple(prices[start:end]), str(end) if end < len(prices) else "")
        return page_message(pb.ListPricesResponse, page, _price_message)

    @audited
    async def SetPrice(self, request: pb.SetPriceRequest, call: Any) -> pb.Price:
        amount = amount_of(request.amount, "amount")
        return _price_message(await billing.set_price(current(), request.item, amount, self._context, now()))

    async def GetQuote(self, request: pb.GetQuoteRequest, call: Any) -> common_pb2.Quote:
        return message_of(common_pb2.Quote, await billing.get_quote(current(), request.quote, self._context, now()))

    async def ListUsageRecords(self, request: pb.ListUsageRecordsRequest, call: Any) -> pb.ListUsageRecordsResponse:
        page = await billing.list_usage(current(), PageQuery.of(request), self._context)
        return page_message(pb.ListUsageRecordsResponse, page)


class BillingInternalService(internal_pb2_grpc.BillingInternalServiceServicer):
    """The methods for stages; the project is the caller's."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def CreateQuote(self, request: internal_pb2.CreateQuoteRequest, call: Any) -> common_pb2.Quote:
        items = [value_of(QuoteItem, item) for item in request.items]
        notes, context = tuple(request.notes), self._context
        quote = await billing.create_quote(current(), items, request.spec_digest, notes, context, now())
        return message_of(common_pb2.Quote, quote)

    async def Reserve(self, request: internal_pb2.ReserveRequest, call: Any) -> internal_pb2.Reservation:
        command = value_of(billing.Reserve, request)
        return _shown(await billing.reserve(current(), command, self._context, now()))

    async def Confirm(self, request: internal_pb2.ConfirmRequest, call: Any) -> internal_pb2.Reservation:
        return _shown(await billing.confirm(current(), request.reservation_id, self._context, now()))

    async def Settle(self, request: internal_pb2.SettleRequest, call: Any) -> internal_pb2.Reservation:
        quantity, context = request.quantity, self._context
        return _shown(await billing.settle(current(), request.reservation_id, quantity, context, now()))

    async def Release(self, request: internal_pb2.ReleaseRequest, call: Any) -> Empty:
        await billing.release(current(), request.reservation_id, self._context, now())
        return Empty()

    async def RecordUsage(self, request: internal_pb2.RecordUsageRequest, call: Any) -> Empty:
        given = {"id": request.record_id, "project": current().project, "cost": ZERO, "create_time": now()}
        await billing.record_usage(value_of(UsageRecord, request, **given), self._context)
        return Empty()


def _price_message(price: Price) -> pb.Price:
    """Return a price as callers see it; one that was never set has no time."""
    return message_of(pb.Price, price, item=price.id, set_time=price.set_time if price.version else None)


def _shown(reservation: Reservation) -> internal_pb2.Reservation:
    return message_of(internal_pb2.Reservation, reservation)
