"""Values as messages and back, and which fields an update changes: one behaviour for all services.

What is None stays unset in a message: `pb.Job(finish_time=timestamp_of(job.end_time))`. `message_of` and `value_of` do
all fields of a dataclass that its message names alike.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from dataclasses import is_dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from enum import Enum
from functools import cache
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

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

_NANOS = 1_000_000_000
_PLAIN = frozenset({str, int, float, bool, dict})
M = TypeVar("M", bound=Message)
V = TypeVar("V")


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


def message_of(value: Any, kind: type[M], **given: Any) -> M:
    """Return a message with the attributes of a value that it names alike, and those given, which come first."""
    own = {name: getattr(value, name, None) for name in _fields(kind.DESCRIPTOR) if name not in given}
    return kind(**{name: _content(kind, name, one) for name, one in own.items() if one is not None}, **given)


def _content(kind: type[Message], name: str, one: Any) -> Any:
    if type(one) in _PLAIN:
        return one
    if isinstance(one, tuple | list):
        return [_content(kind, name, item) for item in one]
    if isinstance(one, Enum):
        return one.name
    if isinstance(one, datetime):
        return timestamp_of(one)
    if isinstance(one, Decimal):
        return money_of(one)
    below = _fields(kind.DESCRIPTOR)[name].message_type
    return message_of(one, GetMessageClass(below)) if below and is_dataclass(one) else one


def value_of(message: Message, kind: type[V], **given: Any) -> V:
    """Return a dataclass with what a caller set of the fields that it names alike, and those given, which come first.

    A field that is unset, or 0 or empty without being `optional`, has the dataclass' default, and so has what only the
    system sets.
    """
    hints = _hints(kind)  # type: ignore[arg-type]
    for name, field in _fields(message.DESCRIPTOR).items():
        if name in hints and name not in given and field_behavior_pb2.OUTPUT_ONLY not in _behaviors(field):
            content = getattr(message, name)
            if message.HasField(name) if field.has_presence else content:
                given[name] = _read(field, content, hints[name])
    return kind(**given)


def _read(field: FieldDescriptor, content: Any, hint: Any) -> Any:
    if hasattr(content, "items"):
        return dict(content)
    kind = next((one for one in get_args(hint) if one not in (NoneType, ...)), hint)
    if field.is_repeated:
        return tuple(value_of(one, kind) if field.message_type else one for one in content)
    if field.enum_type:
        return kind[field.enum_type.values_by_number[content].name]
    return value_of(content, kind) if field.message_type else content


@cache
def _fields(descriptor: Any) -> dict[str, FieldDescriptor]:
    return dict(descriptor.fields_by_name)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


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
