"""Entities and values as messages and back, and which fields an update changes: one behaviour for all services.

What is None stays unset in a message: `pb.Job(finish_time=timestamp_of(job.end_time))`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from enum import Enum
from functools import partial
from typing import Any, TypeVar

from google.api import field_behavior_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from modelry.admin.v1 import admin_pb2
from modelry.common.v1 import common_pb2
from services.chassis.auth import current
from services.chassis.errors import Invalid
from services.chassis.locations import ObjectLocation
from services.chassis.names import CreateNamed, UpdateLabels
from services.chassis.readiness import Lack
from services.chassis.transitions import Failure

M = TypeVar("M", bound=Message)
V = TypeVar("V")

_NANOS = 1_000_000_000
_PLAIN = frozenset({str, int, float, bool, bytes, type(None)})


def message_of(message_type: type[M], entity: Any, **given: Any) -> M:
    """Return an entity as a message: each field is `given`, or else the entity's attribute of its name.

    The etag is the entity's version. Enums go by their name; times, amounts, maps, tuples and nested dataclasses become
    what the field is.

    Raises: AttributeError: a field is neither. ValueError: something given, or nested, is no field.
    """
    for field in message_type.DESCRIPTOR.fields:
        if field.name not in given:
            given[field.name] = str(entity.version) if field.name == "etag" else getattr(entity, field.name)
    return message_type(**{name: _field_value(value) for name, value in given.items()})


def _field_value(value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, datetime):
        return timestamp_of(value)
    if isinstance(value, Decimal):
        return money_of(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list | tuple):
        return [_field_value(one) for one in value]
    return {name: _field_value(one) for name, one in vars(value).items()} if is_dataclass(value) else value


def page_message(answer: type[M], page: Any, shown: Callable[[Any], Message] | None = None) -> M:
    """Return a page as the answer of a List method: its first field has the items, as `shown` or `message_of` says."""
    field: Any = answer.DESCRIPTOR.fields[0]
    show = shown or partial(message_of, GetMessageClass(field.message_type))
    return answer(**{field.name: [show(item) for item in page.items]}, next_page_token=page.next_page_token)


def value_of(value_type: type[V], message: Message, **given: Any) -> V:
    """Return a dataclass whose fields are `given`, or else the message's plain fields, lists and maps of their names.

    What the message lacks, and what is a message in it, is given or has its default.
    """
    for field in fields(value_type):  # type: ignore[arg-type]
        source = message.DESCRIPTOR.fields_by_name.get(field.name)
        if field.name in given or source is None:
            continue
        value = getattr(message, field.name)
        if source.message_type is None:
            given[field.name] = tuple(value) if source.is_repeated else value
        elif source.message_type.GetOptions().map_entry:
            given[field.name] = dict(value)
    return value_type(**given)


def timestamp_of(moment: datetime | None) -> Timestamp | None:
    """Return a moment as a message."""
    if moment is None:
        return None
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def datetime_of(message: Timestamp, field: str) -> datetime:
    """Return the moment of a message. Raises: Invalid: it is outside of the calendar."""
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise Invalid(f"{field} is no time between the years 1 and 9999.", field=field) from error


def money_of(amount: Decimal | None) -> common_pb2.Money | None:
    """Return an amount as a message, to nine places."""
    if amount is None:
        return None
    nanos = int((amount * _NANOS).to_integral_value(ROUND_HALF_UP))
    sign = -1 if nanos < 0 else 1
    units, rest = divmod(abs(nanos), _NANOS)
    return common_pb2.Money(units=sign * units, nanos=sign * rest)


def amount_of(message: common_pb2.Money, field: str) -> Decimal:
    """Return the amount of a message. Raises: Invalid: its nanos are out of range or of the other sign."""
    if abs(message.nanos) >= _NANOS or message.units * message.nanos < 0:
        raise Invalid(f"{field} is no amount of money.", field=field)
    return Decimal(message.units) + Decimal(message.nanos) / _NANOS


def failure_of(failure: Failure | None) -> common_pb2.Failure | None:
    """Return a failure as a message."""
    if failure is None:
        return None
    kind = common_pb2.Failure.Kind.Value(failure.kind)
    return common_pb2.Failure(reason=failure.reason, message=failure.message, kind=kind)


def location_of(message: common_pb2.ObjectLocation) -> ObjectLocation:
    """Return the location of a message."""
    return ObjectLocation(message.credential, message.bucket, message.prefix)


def location_message(location: ObjectLocation) -> common_pb2.ObjectLocation:
    """Return a location as a message."""
    return common_pb2.ObjectLocation(credential=location.credential, bucket=location.bucket, prefix=location.prefix)


async def changes_of(request: Any, read: Callable[[], Awaitable[Message]]) -> dict[str, Any]:
    """Return the fields that an Update changes, and their new values; maps are dicts.

    The resource is the request's first field. Its `update_mask` says which fields are meant, or without one (or with
    `*`) all that are set. The etag and output-only fields are no changes, nor is a write-only field that is empty. A
    field that is fixed at creation passes when it equals that of the stored resource, which `read` returns: it is
    called only when there is such a field.

    Raises: Invalid: a path is no field of the resource, or a fixed field has another value; what `read` raises.
    """
    name = request.DESCRIPTOR.fields[0].name
    wanted: Message = getattr(request, name)
    fixed: list[FieldDescriptor] = []
    changes: dict[str, Any] = {}
    for field in _masked(name, wanted, list(request.update_mask.paths)):
        behaviors = _behaviors(field)
        if field_behavior_pb2.OUTPUT_ONLY in behaviors or field.name == "etag":
            continue
        if field_behavior_pb2.IMMUTABLE in behaviors:
            fixed.append(field)
            continue
        value = getattr(wanted, field.name)
        if value or field_behavior_pb2.INPUT_ONLY not in behaviors:
            changes[field.name] = dict(value) if hasattr(value, "items") else value
    if any(field.name != "name" or wanted.id for field in fixed):  # type: ignore[attr-defined]
        _refuse_other(name, fixed, wanted, await read())
    return changes


def creation_of(request: Any, digest: str) -> CreateNamed:
    """Return what a Create asks of a resource that has only a name and labels: the request's first field."""
    wanted = getattr(request, request.DESCRIPTOR.fields[0].name)
    return CreateNamed(current().project, wanted.name, wanted.title, dict(wanted.metadata), request.request_id, digest)


async def labels_update_of(request: Any, read: Callable[[str], Awaitable[Message]]) -> UpdateLabels:
    """Return what an Update asks of a resource that has only labels to change; `read` takes its id or name.

    Raises: Invalid, what `read` raises: as `changes_of`.
    """
    wanted = getattr(request, request.DESCRIPTOR.fields[0].name)
    ref = wanted.id or wanted.name
    changes = await changes_of(request, lambda: read(ref))
    return UpdateLabels(current().project, ref, changes.get("title"), changes.get("metadata"), wanted.etag)


def _masked(name: str, wanted: Message, paths: list[str]) -> Iterator[Any]:
    if paths in ([], ["*"]):
        yield from (field for field, _ in wanted.ListFields())
        return
    for path in dict.fromkeys(paths):
        field = wanted.DESCRIPTOR.fields_by_name.get(path)
        if field is None:
            raise Invalid(f"update_mask names {path!r}, which is no field of {name}.", field="update_mask")
        yield field


def _refuse_other(name: str, fixed: list[FieldDescriptor], wanted: Message, stored: Message) -> None:
    """Refuse fixed fields that differ from the stored ones. Raises: Invalid, naming the first."""
    ours, theirs = ({field.name: value for field, value in _given(one).ListFields()} for one in (wanted, stored))
    for field in fixed:
        if ours.get(field.name) != theirs.get(field.name):
            path = f"{name}.{field.name}"
            raise Invalid(f"{path} is fixed at creation and cannot be changed by an update.", field=path)


def _given(message: Message) -> Message:
    """Return a copy without what only the system sets, at any depth."""
    copy = type(message)()
    copy.CopyFrom(message)
    _clear_output(copy)
    return copy


def _clear_output(message: Message) -> None:
    for field, value in message.ListFields():
        if field_behavior_pb2.OUTPUT_ONLY in _behaviors(field):
            message.ClearField(field.name)
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for below in value if field.is_repeated else (value,):
                _clear_output(below)


def _behaviors(field: FieldDescriptor) -> Collection[int]:
    behaviors: Collection[int] = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return behaviors


def service_health(service: str, cannot_answer: Iterable[Lack], degraded: Iterable[Lack]) -> admin_pb2.ServiceHealth:
    """Return the health of a process as a message."""
    return admin_pb2.ServiceHealth(
        service=service, cannot_answer=map(_lack, cannot_answer), degraded=map(_lack, degraded)
    )


def _lack(lack: Lack) -> admin_pb2.Lack:
    return admin_pb2.Lack(name=lack.name, message=lack.message, since_time=timestamp_of(lack.since))
