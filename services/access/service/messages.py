"""Entities as messages, and back."""

from __future__ import annotations

from datetime import datetime

from modelry.access.v1 import access_pb2
from modelry.billing.v1 import billing_pb2
from modelry.billing.v1 import internal_pb2 as billing_internal_pb2
from modelry.common.v1 import common_pb2, options_pb2
from services.access.domain.audit import AuditEntry
from services.access.domain.credentials import Credential
from services.access.domain.keys import ApiKey, CreateKey, KeyRole
from services.access.domain.money import Price, Quote, QuoteItem, Reservation, UsageRecord
from services.access.domain.projects import Project
from services.chassis.errors import Invalid
from services.chassis.proto_values import datetime_of, money_of, timestamp_of


def project_message(project: Project) -> access_pb2.Project:
    """Return a project as callers see it."""
    return access_pb2.Project(
        id=project.id,
        name=project.name,
        title=project.title,
        metadata=dict(project.metadata),
        etag=str(project.version),
        create_time=timestamp_of(project.create_time),
        update_time=timestamp_of(project.update_time),
    )


def key_command(message: access_pb2.ApiKey) -> CreateKey:
    """Return what a caller asks of a new key."""
    expires = message.HasField("expire_time")
    return CreateKey(
        name=message.name,
        title=message.title,
        role=role_of(message.role),
        models=tuple(message.models),
        addresses=tuple(message.addresses),
        expire_time=datetime_of(message.expire_time, "api_key.expire_time") if expires else None,
    )


def role_of(number: int) -> KeyRole:
    """Return a role of the protos; unset is INFERENCE. Raises: Invalid."""
    try:
        return KeyRole(number) if number else KeyRole.INFERENCE
    except ValueError as error:
        names = ", ".join(role.name for role in KeyRole)
        raise Invalid(f"api_key.role {number} is no role; there are {names}.", field="api_key.role") from error


def key_message(key: ApiKey, now: datetime, secret: str = "", propagated: bool = False) -> access_pb2.ApiKey:
    """Return a key as callers see it; its secret only in the answer that made it."""
    return access_pb2.ApiKey(
        id=key.id,
        name=key.name,
        title=key.title,
        project_id="" if key.role is KeyRole.ADMIN else key.project,
        role=options_pb2.Role.Value(key.role.name),
        state=access_pb2.ApiKey.State.Value(key.shown_state(now).name),
        models=key.models,
        addresses=key.addresses,
        expire_time=timestamp_of(key.expire_time),
        secret=secret,
        display=key.display,
        propagated=propagated,
        version=key.version,
        create_time=timestamp_of(key.create_time),
        deployment_id=key.deployment_id,
    )


def credential_message(credential: Credential, builtin_endpoint: str, builtin_region: str) -> access_pb2.Credential:
    """Return a credential as callers see it: without its secret; the address of `builtin` is a setting."""
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
        verify_time=timestamp_of(credential.verify_time),
        create_time=timestamp_of(credential.create_time),
        update_time=timestamp_of(credential.update_time),
    )


def audit_message(entry: AuditEntry) -> access_pb2.AuditEntry:
    """Return an audit entry as callers see it."""
    return access_pb2.AuditEntry(
        id=entry.id,
        create_time=timestamp_of(entry.create_time),
        key_id=entry.key_id,
        method=entry.method,
        resource_id=entry.resource_id,
        outcome=entry.outcome,
    )


def price_message(price: Price) -> billing_pb2.Price:
    """Return a price as callers see it; one that was never set has no time."""
    set_time = timestamp_of(price.set_time) if price.version else None
    return billing_pb2.Price(item=price.id, amount=money_of(price.amount), set_time=set_time)


def quote_item(message: common_pb2.Quote.Item) -> QuoteItem:
    """Return a line of an estimate, still without prices."""
    return QuoteItem(message.description, message.unit, message.quantity_low, message.quantity_high)


def quote_message(quote: Quote) -> common_pb2.Quote:
    """Return a quote as callers see it."""
    return common_pb2.Quote(
        id=quote.id,
        items=[_item_message(item) for item in quote.items],
        low=money_of(quote.low),
        high=money_of(quote.high),
        expire_time=timestamp_of(quote.expire_time),
        notes=quote.notes,
    )


def _item_message(item: QuoteItem) -> common_pb2.Quote.Item:
    return common_pb2.Quote.Item(
        description=item.description,
        unit=item.unit,
        quantity_low=item.quantity_low,
        quantity_high=item.quantity_high,
        unit_price=money_of(item.unit_price),
        low=money_of(item.low),
        high=money_of(item.high),
    )


def reservation_message(reservation: Reservation) -> billing_internal_pb2.Reservation:
    """Return a reservation as stages see it."""
    return billing_internal_pb2.Reservation(
        id=reservation.id,
        state=billing_internal_pb2.Reservation.State.Value(reservation.state.name),
        amount=money_of(reservation.amount),
        unit_price=money_of(reservation.unit_price),
        settled=money_of(reservation.settled),
    )


def usage_message(record: UsageRecord) -> billing_pb2.UsageRecord:
    """Return a line of the ledger as callers see it."""
    return billing_pb2.UsageRecord(
        id=record.id,
        item=record.item,
        quantity=record.quantity,
        cost=money_of(record.cost),
        resource_id=record.resource_id,
        key_id=record.key_id,
        create_time=timestamp_of(record.create_time),
    )
