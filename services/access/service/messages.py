"""Entities as messages, and back, where it takes more than the names of their fields."""

from __future__ import annotations

from datetime import datetime

from modelry.access.v1 import access_pb2
from modelry.billing.v1 import billing_pb2
from services.access.domain.keys import ApiKey, CreateKey, KeyRole
from services.access.domain.money import Price
from services.chassis.errors import Invalid
from services.chassis.proto_values import datetime_of, message_of, value_of


def key_command(message: access_pb2.ApiKey) -> CreateKey:
    """Return what a caller asks of a new key."""
    expires = message.HasField("expire_time")
    expire_time = datetime_of(message.expire_time, "api_key.expire_time") if expires else None
    return value_of(CreateKey, message, role=_role_of(message.role), expire_time=expire_time, deployment_id="")


def _role_of(number: int) -> KeyRole:
    """Return a role of the protos; unset is INFERENCE. Raises: Invalid."""
    try:
        return KeyRole(number) if number else KeyRole.INFERENCE
    except ValueError as error:
        names = ", ".join(role.name for role in KeyRole)
        raise Invalid(f"api_key.role {number} is no role; there are {names}.", field="api_key.role") from error


def key_message(key: ApiKey, now: datetime, secret: str = "", propagated: bool = False) -> access_pb2.ApiKey:
    """Return a key as callers see it; its secret only in the answer that made it."""
    project, state = "" if key.role is KeyRole.ADMIN else key.project, key.shown_state(now)
    return message_of(access_pb2.ApiKey, key, project_id=project, state=state, secret=secret, propagated=propagated)


def price_message(price: Price) -> billing_pb2.Price:
    """Return a price as callers see it; one that was never set has no time."""
    return message_of(billing_pb2.Price, price, item=price.id, set_time=price.set_time if price.version else None)
