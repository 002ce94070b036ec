"""Prices, quotes, reservations and the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeVar

from services.access.domain.money import (
    FALL,
    ITEMS,
    Price,
    Quote,
    QuoteItem,
    Reservation,
    ReservationState,
    UsageRecord,
    check_amount,
    check_item,
    check_quantity,
    make_quote,
    stale,
)
from services.access.operations.audit import note
from services.access.operations.context import ServiceContext
from services.access.store import QUOTES, RESERVATIONS, AccessUnit
from services.chassis.auth import Principal
from services.chassis.data import Entity, Page, PageQuery, Repository, retry_conflicts
from services.chassis.errors import AlreadyExists, Conflict, NotFound
from services.chassis.events import Event
from services.chassis.ids import new_id
from services.chassis.money import ZERO, cost_of

E = TypeVar("E", bound=Entity)

_SWEEP = 500
_QUOTE_KEPT = timedelta(days=1)


@dataclass(frozen=True)
class Reserve:
    """What a stage asks to set aside, under the id of its job, evaluation or deployment."""

    reservation_id: str
    item: str
    quantity: float
    quote_id: str = ""
    spec_digest: str = ""


async def list_prices(context: ServiceContext) -> list[Price]:
    """Return the whole price list, in its order; what was never set is zero."""
    async with context.reading() as uow:
        known = {price.id: price for price in await uow.prices.select()}
    never = datetime.fromtimestamp(0).astimezone()
    return [known.get(item) or Price(item, ZERO, never, version=0) for item in ITEMS]


@retry_conflicts
async def set_price(caller: Principal, item: str, amount: Decimal, context: ServiceContext, now: datetime) -> Price:
    """Set a price from now on. Raises: Invalid."""
    check_item(item, "item")
    check_amount(amount, "amount")
    async with context.writing() as uow:
        known = await uow.prices.by_id(item)
        price = Price(item, amount, now, version=known.version + 1 if known else 1)
        await (uow.prices.save(price) if known else _add_once(uow.prices, price))
        await note(uow, caller, "SetPrice", item, now)
        await uow.commit()
    return price


async def create_quote(
    caller: Principal,
    items: Sequence[QuoteItem],
    spec_digest: str,
    notes: Sequence[str],
    context: ServiceContext,
    now: datetime,
) -> Quote:
    """Price an estimate and keep it for ten minutes. Raises: Invalid."""
    async with context.writing() as uow:
        prices = {price.id: price.amount for price in await uow.prices.select()}
        quote = make_quote(new_id("quote-"), caller.project, items, prices, spec_digest, notes, now)
        await uow.quotes.add(quote)
        await uow.commit()
    return quote


async def get_quote(caller: Principal, quote_id: str, context: ServiceContext, now: datetime) -> Quote:
    """Return a quote that has not expired. Raises: NotFound."""
    async with context.reading() as uow:
        quote = await uow.quotes.get(caller.project, quote_id)
    if quote.expire_time <= now:
        raise NotFound(f"The quote {quote_id!r} has expired. Ask for a new one.", metadata={"name": quote_id})
    return quote


@retry_conflicts
async def reserve(caller: Principal, command: Reserve, context: ServiceContext, now: datetime) -> Reservation:
    """Set an amount aside; asking again returns what was set aside first. Raises: Invalid, WrongState(QUOTE_STALE)."""
    check_item(command.item, "item")
    check_quantity(command.quantity, "quantity")
    async with context.writing() as uow:
        known = await uow.reservations.find(caller.project, command.reservation_id)
        if known is not None and known.state is not ReservationState.RELEASED:
            return known
        if known is not None:
            reservation = known.renew(now, context.hold)
            await uow.reservations.save(reservation)
        else:
            reservation = await _new_reservation(uow, caller, command, context.hold, now)
            await _add_once(uow.reservations, reservation)
        await uow.commit()
    return reservation


async def _new_reservation(
    uow: AccessUnit, caller: Principal, command: Reserve, hold: timedelta, now: datetime
) -> Reservation:
    price = await _unit_price(uow, caller.project, command, now)
    return Reservation(
        id=command.reservation_id,
        project=caller.project,
        item=command.item,
        quantity=command.quantity,
        unit_price=price,
        amount=cost_of(command.quantity, price),
        state=ReservationState.HELD,
        create_time=now,
        update_time=now,
        hold_until=now + hold,
        key_id=caller.key_id,
    )


async def _unit_price(uow: AccessUnit, project: str, command: Reserve, now: datetime) -> Decimal:
    if not command.quote_id:
        return await _present_price(uow, command.item)
    quote = await uow.quotes.find(project, command.quote_id)
    if quote is None:
        raise stale(command.quote_id, "there is none in this project")
    return quote.price_for(command.item, command.spec_digest, now)


async def _present_price(uow: AccessUnit, item: str) -> Decimal:
    known = await uow.prices.by_id(item)
    return known.amount if known is not None else ZERO


@retry_conflicts
async def confirm(caller: Principal, reservation_id: str, context: ServiceContext, now: datetime) -> Reservation:
    """Keep a reservation until it is settled or released. Raises: NotFound, WrongState."""
    async with context.writing() as uow:
        known = await uow.reservations.get(caller.project, reservation_id)
        return await _save(uow, known, known.confirm(now))


@retry_conflicts
async def settle(
    caller: Principal, reservation_id: str, quantity: float, context: ServiceContext, now: datetime
) -> Reservation:
    """Book what was really used, at the price that was held, in every state. Raises: NotFound, Invalid."""
    async with context.writing() as uow:
        known = await uow.reservations.get(caller.project, reservation_id)
        settled = known.settle(quantity, now)
        if settled is not known:
            await uow.usage.add(settled.usage(new_id("usage-"), quantity, now))
        return await _save(uow, known, settled)


@retry_conflicts
async def release(caller: Principal, reservation_id: str, context: ServiceContext, now: datetime) -> None:
    """Free a reservation without booking; one that is unknown or ended is free already."""
    async with context.writing() as uow:
        known = await uow.reservations.find(caller.project, reservation_id)
        if known is not None:
            await _save(uow, known, known.release(now))


async def _save(uow: AccessUnit, known: Reservation, changed: Reservation) -> Reservation:
    """Save and commit what a rule has changed; one that changes nothing returns what it was given."""
    if changed is not known:
        await uow.reservations.save(changed)
        await uow.commit()
    return changed


async def note_event(event: Event, event_id: str, context: ServiceContext, now: datetime) -> None:
    """Confirm the reservation of what is alive. Of what has ended, note when: `overdue` tells of it.

    A stage confirms and settles by itself. This is for the stage that died between its own commit and that call: its
    event is on the bus all the same.
    """
    async with context.writing() as uow:
        if not await uow.first_time(event_id):
            return
        known = await uow.reservations.find(event.project, event.resource_id)
        if known is not None and known.open:
            ended = event.terminal or event.happening == "deleted"
            changed = known.note_end(now) if ended else known.confirm(now)
            if changed is not known:
                await uow.reservations.save(changed)
        await uow.commit()


@retry_conflicts
async def record_usage(usage: UsageRecord, context: ServiceContext) -> None:
    """Book usage without a reservation, at the present price; a record that is there already is not booked again.

    Raises: Invalid.
    """
    check_item(usage.item, "item")
    check_quantity(usage.quantity, "quantity")
    async with context.writing() as uow:
        if await uow.usage.by_id(usage.id) is None:
            price = await _present_price(uow, usage.item)
            await _add_once(uow.usage, replace(usage, cost=cost_of(usage.quantity, price)))
            await uow.commit()


async def _add_once(repository: Repository[E], entity: E) -> None:
    """Add what the same call, made at the same time, may have added just before: it is looked up again then."""
    try:
        await repository.add(entity)
    except AlreadyExists as error:
        raise Conflict(f"{entity.id!r} was made by another call at the same time; try again.") from error


async def list_usage(caller: Principal, page: PageQuery, context: ServiceContext) -> Page[UsageRecord]:
    """Return what the project used and what it cost, newest first."""
    async with context.reading() as uow:
        return await uow.usage.list(caller.project, page)


@retry_conflicts
async def sweep(context: ServiceContext, now: datetime) -> None:
    """Free what nobody confirmed in time. What is confirmed stays until its owner settles or releases it."""
    columns = RESERVATIONS.c
    async with context.writing() as uow:
        unconfirmed = await uow.reservations.select(
            columns.state == ReservationState.HELD, columns.hold_until <= now, limit=_SWEEP
        )
        for reservation in unconfirmed:
            await uow.reservations.save(reservation.apply(FALL, now))
        for quote in await uow.quotes.select(QUOTES.c.expire_time <= now - _QUOTE_KEPT, limit=_SWEEP):
            await uow.quotes.delete(quote)
        await uow.commit()


async def overdue(context: ServiceContext, now: datetime) -> list[Reservation]:
    """Return what has ended longer ago than the hold while its owner has not settled it, which people should know."""
    columns = RESERVATIONS.c
    async with context.reading() as uow:
        return await uow.reservations.select(
            columns.state == ReservationState.CONFIRMED, columns.end_time <= now - context.hold, limit=_SWEEP
        )
