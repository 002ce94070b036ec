"""Entities as messages, and back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from modelry.access.v1 import access_pb2
from modelry.billing.v1 import billing_pb2
from modelry.billing.v1 import internal_pb2 as billing_internal_pb2
from modelry.common.v1 import common_pb2, options_pb2
from services.access.domain.audit import AuditEntry
from services.access.domain.credentials import Credential
from services.access.domain.keys import ApiKey, KeyRole, KeyWish
from services.access.domain.money import Price, Quote, QuoteItem, Reservation, UsageRecord
from services.access.domain.projects import Project
from services.chassis.data import PageQuery
from services.chassis.errors import Invalid

_NANOS = 1_000_000_000


def stamp(moment: datetime | None) -> Timestamp | None:
    """A moment as a message; None stays unset."""
    if moment is None:
        return None
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def moment_of(message: Timestamp, field: str) -> datetime:
    """A message as a moment. Raises: Invalid: it is outside of the calendar."""
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise Invalid(f"{field} is no time between the years 1 and 9999.", field=field) from error


def page_query(request: Any) -> PageQuery:
    """What a list request asks."""
    order_by = getattr(request, "order_by", "")
    return PageQuery(request.page_size, request.page_token, getattr(request, "filter", ""), order_by)


def changes_of(message: Message, mask: FieldMask, prefix: str) -> dict[str, object]:
    """The fields that an update wants to change, and their new values.

    Without a mask (or with `*`) these are all that are not empty. The id, the etag and what only Modelry sets are not
    changes. Raises: Invalid: the mask names a field that is none.
    """
    fields = message.DESCRIPTOR.fields_by_name
    given = [field.name for field, _ in message.ListFields()]
    paths = given if not mask.paths or list(mask.paths) == ["*"] else list(mask.paths)
    changes: dict[str, object] = {}
    for path in paths:
        name = path.split(".")[0]
        if name not in fields:
            raise Invalid(f"update_mask names {path!r}, which is no field of {prefix}.", field="update_mask")
        if name not in ("id", "etag") and not _is_output_only(fields[name]):
            value = getattr(message, name)
            changes[name] = dict(value) if isinstance(value, Mapping) or hasattr(value, "items") else value
    return changes


def _is_output_only(field: Any) -> bool:
    behaviors: Collection[int] = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.OUTPUT_ONLY in behaviors


def money(amount: Decimal) -> common_pb2.Money:
    """An amount as a message."""
    nanos = int(amount * _NANOS)
    sign = -1 if nanos < 0 else 1
    units, rest = divmod(abs(nanos), _NANOS)
    return common_pb2.Money(units=sign * units, nanos=sign * rest)


def amount_of(message: common_pb2.Money, field: str) -> Decimal:
    """A message as an amount. Raises: Invalid: its nanos are out of range or of the other sign."""
    if abs(message.nanos) >= _NANOS or message.units * message.nanos < 0:
        raise Invalid(f"{field} is no amount of money.", field=field)
    return Decimal(message.units) + Decimal(message.nanos) / _NANOS


def project_message(project: Project) -> access_pb2.Project:
    """A project as callers see it."""
    return access_pb2.Project(
        id=project.id,
        name=project.name,
        title=project.title,
        metadata=dict(project.metadata),
        etag=str(project.version),
        create_time=stamp(project.create_time),
        update_time=stamp(project.update_time),
    )


def key_wish(message: access_pb2.ApiKey) -> KeyWish:
    """What a caller asks of a new key."""
    expires = message.HasField("expire_time")
    return KeyWish(
        name=message.name,
        title=message.title,
        role=role_of(message.role),
        models=tuple(message.models),
        addresses=tuple(message.addresses),
        expire_time=moment_of(message.expire_time, "api_key.expire_time") if expires else None,
    )


def role_of(number: int) -> KeyRole:
    """A role of the protos; unset is INFERENCE. Raises: Invalid."""
    try:
        return KeyRole(number) if number else KeyRole.INFERENCE
    except ValueError as error:
        names = ", ".join(role.name for role in KeyRole)
        raise Invalid(f"api_key.role {number} is no role; there are {names}.", field="api_key.role") from error


def key_message(key: ApiKey, now: datetime, secret: str = "", propagated: bool = False) -> access_pb2.ApiKey:
    """A key as callers see it; its secret only in the answer that made it."""
    return access_pb2.ApiKey(
        id=key.id,
        name=key.name,
        title=key.title,
        project_id="" if key.role is KeyRole.ADMIN else key.project,
        role=options_pb2.Role.Value(key.role.name),
        state=access_pb2.ApiKey.State.Value(key.shown_state(now).name),
        models=key.models,
        addresses=key.addresses,
        expire_time=stamp(key.expire_time),
        secret=secret,
        display=key.display,
        propagated=propagated,
        version=key.version,
        create_time=stamp(key.create_time),
        deployment_id=key.deployment_id,
    )


def credential_message(credential: Credential, builtin_endpoint: str, builtin_region: str) -> access_pb2.Credential:
    """A credential as callers see it: without its secret; the address of `builtin` is a setting."""
    builtin = credential.builtin
    return access_pb2.Credential(
        id=credential.id,
        name=credential.name,
        title=credential.title,
        metadata=dict(credential.metadata),
        etag=str(credential.version),
        endpoint=builtin_endpoint if builtin else credential.endpoint,
        region=builtin_region if builtin else credential.region,
        bucket=credential.bucket,
        access_key=credential.access_key,
        verify_time=stamp(credential.verify_time),
        create_time=stamp(credential.create_time),
        update_time=stamp(credential.update_time),
    )


def audit_message(entry: AuditEntry) -> access_pb2.AuditEntry:
    """An audit entry as callers see it."""
    return access_pb2.AuditEntry(
        id=entry.id,
        create_time=stamp(entry.create_time),
        key_id=entry.key_id,
        method=entry.method,
        resource_id=entry.resource_id,
        outcome=entry.outcome,
    )


def price_message(price: Price) -> billing_pb2.Price:
    """A price as callers see it; one that was never set has no time."""
    set_time = stamp(price.set_time) if price.version else None
    return billing_pb2.Price(item=price.id, amount=money(price.amount), set_time=set_time)


def quote_item(message: common_pb2.Quote.Item) -> QuoteItem:
    """A line of an estimate, still without prices."""
    return QuoteItem(message.description, message.unit, message.quantity_low, message.quantity_high)


def quote_message(quote: Quote) -> common_pb2.Quote:
    """A quote as callers see it."""
    return common_pb2.Quote(
        id=quote.id,
        items=[_item_message(item) for item in quote.items],
        low=money(quote.low),
        high=money(quote.high),
        expire_time=stamp(quote.expire_time),
        notes=quote.notes,
    )


def _item_message(item: QuoteItem) -> common_pb2.Quote.Item:
    return common_pb2.Quote.Item(
        description=item.description,
        unit=item.unit,
        quantity_low=item.quantity_low,
        quantity_high=item.quantity_high,
        unit_price=money(item.unit_price),
        low=money(item.low),
        high=money(item.high),
    )


def reservation_message(reservation: Reservation) -> billing_internal_pb2.Reservation:
    """A reservation as stages see it."""
    return billing_internal_pb2.Reservation(
        id=reservation.id,
        state=billing_internal_pb2.Reservation.State.Value(reservation.state.name),
        amount=money(reservation.amount),
        unit_price=money(reservation.unit_price),
        settled=money(reservation.settled),
    )


def usage_message(record: UsageRecord) -> billing_pb2.UsageRecord:
    """A line of the ledger as callers see it."""
    return billing_pb2.UsageRecord(
        id=record.id,
        item=record.item,
        quantity=record.quantity,
        cost=money(record.cost),
        resource_id=record.resource_id,
        key_id=record.key_id,
        create_time=stamp(record.create_time),
    )
