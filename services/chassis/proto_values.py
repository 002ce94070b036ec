"""Values as messages and back, and which fields an update changes: one behaviour for all services.

What is None stays unset in a message: `pb.Job(finish_time=timestamp_of(job.end_time))`. `message_of` and `value_of` do
all fields of a dataclass that its message names alike.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from enum import Enum
from functools import cache, partial
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
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
_PLAIN = frozenset({str, int, float, bool, bytes, dict, NoneType})
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


def message_of(message_type: type[M], entity: Any, **given: Any) -> M:
    """Return an entity as a message: each field is `given`, or else the entity's attribute of its name.

    The etag is the entity's version. Enums go by their name; times, amounts, maps, tuples and nested dataclasses become
    what the field is. An attribute that is missing or None, and an enum's member that the message does not know, leave
    their field unset.

    Raises: ValueError: something given is no field.
    """
    for name, known in _known_fields(message_type.DESCRIPTOR):
        if name in given:
            value = given[name]
        elif name == "etag":
            value = str(entity.version)
        else:
            value = getattr(entity, name, None)
        given[name] = value if type(value) in _PLAIN else _shown(known, value)
    return message_type(**given)


@cache
def _known_fields(descriptor: Descriptor) -> tuple[tuple[str, Any], ...]:
    """Return the names of the fields, each with its enum's numbers by name, or the class of its message."""
    return tuple((field.name, _known(field)) for field in descriptor.fields)


def _known(field: FieldDescriptor) -> Any:
    if field.message_type is not None:
        return GetMessageClass(field.message_type)
    return {value.name: value.number for value in field.enum_type.values} if field.enum_type is not None else None


def _shown(known: Any, value: Any) -> Any:
    """Return the value of an attribute as the constructor of a message takes it; None leaves the field unset."""
    if isinstance(value, Enum):
        return known.get(value.name) if known else value.name
    if isinstance(value, datetime):
        return timestamp_of(value)
    if isinstance(value, Decimal):
        return money_of(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list | tuple):
        return [one if type(one) in _PLAIN else _shown(known, one) for one in value]
    return message_of(known, value) if is_dataclass(value) else value


def page_message(answer: type[M], page: Any, shown: Callable[[Any], Message] | None = None) -> M:
    """Return a page as the answer of a List method: its first field has the items, as `shown` or `message_of` says."""
    field: Any = answer.DESCRIPTOR.fields[0]
    show = shown or partial(message_of, GetMessageClass(field.message_type))
    return answer(**{field.name: [show(item) for item in page.items]}, next_page_token=page.next_page_token)


def value_of(value_type: type[V], message: Message, **given: Any) -> V:
    """Return a dataclass whose fields are `given`, or else what a caller set of the message's fields of their names.

    A field that is unset, or 0 or empty without being `optional`, has the dataclass' default if there is one, and so
    has what only the system sets.
    """
    of_type: Any = value_type
    types, known, needed = _types_of(of_type), _fields(message.DESCRIPTOR), _without_default(of_type)
    for name in types.keys() & known.keys() - given.keys():
        field, content = known[name], getattr(message, name)
        if field_behavior_pb2.OUTPUT_ONLY in _behaviors(field):
            continue
        if (message.HasField(name) if field.has_presence else content) or name in needed:
            given[name] = _read(field, content, types[name])
    return value_type(**given)


def _read(field: FieldDescriptor, content: Any, hint: Any) -> Any:
    if hasattr(content, "items"):
        return dict(content)
    kind = next((one for one in get_args(hint) if one not in (NoneType, ...)), hint)
    if field.is_repeated:
        return tuple(value_of(kind, one) if field.message_type else one for one in content)
    if field.enum_type:
        return kind[field.enum_type.values_by_number[content].name]
    return value_of(kind, content) if field.message_type else content


@cache
def _types_of(value_type: type) -> dict[str, Any]:
    return get_type_hints(value_type)


@cache
def _without_default(value_type: Any) -> frozenset[str]:
    return frozenset(one.name for one in fields(value_type) if one.default is one.default_factory is MISSING)


@cache
def _fields(descriptor: Any) -> dict[str, FieldDescriptor]:
    return dict(descriptor.fields_by_name)


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
