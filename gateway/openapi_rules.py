"""Rules of requests that the schema can say: what is refused whatever is stored, from the protos and the codec."""

from collections.abc import Collection
from functools import cache
from itertools import combinations
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf import descriptor as pb

from gateway.openapi_forms import EXACT, IN_AREA, NAMED, NEW, NO_NUL, Schema, filter_pattern
from modelry.api_methods import Method, has_behavior, methods
from modelry.codec import is_map
from modelry.common.v1 import options_pb2
from services.chassis.field_options import given_by_callers, longest, longest_key, marked
from services.chassis.names import NAME

CLOSED: Schema = {"type": "object", "additionalProperties": False}
"""A field that is not known is refused."""
DURATION: Schema = {"type": "string", "pattern": r"^-?[0-9]{1,9}(\.[0-9]{1,9})?s$", "examples": ["3.5s"]}
MONEY: Schema = {"type": "string", "pattern": r"^[0-9]{1,18}(\.[0-9]{1,9})?$", "examples": ["12.34"]}
ETAG: Schema = {"type": "string", "pattern": r'^(\*|(W/)?"?[0-9A-Za-z_]+"?)$'}
INTEGERS: dict[int, tuple[int, int]] = {
    pb.FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    pb.FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    pb.FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    pb.FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_NEED_ONE = {"modelry.evaluation.v1.Task", "modelry.evaluation.v1.Target"}
"""Messages that say nothing without one of the fields that exclude each other."""


def of_field(field: Any) -> Schema:
    """Return what a field's values are bounded by, beside its type."""
    options = field.GetOptions()
    bounds = {
        name: options.Extensions[option]
        for name, option in (("minimum", options_pb2.minimum), ("maximum", options_pb2.maximum))
        if options.HasExtension(option)
    }
    area = field.file.package, field.name
    named = EXACT.get(field.full_name) or NAMED.get(field.name) or (IN_AREA.get(area, {}) if _is_text(field) else {})
    chosen = field.containing_oneof is not None and len(field.containing_oneof.fields) > 1
    needed = has_behavior(field, field_behavior_pb2.REQUIRED) and field.containing_type.full_name not in _resources()
    return {**named, **bounds, **(_filled(field) if chosen or needed else {})}


def of_text(field: Any) -> Schema:
    """Return how long a text of a request may be: the field, each one of its list, or each value of its map."""
    value = field.message_type.fields_by_name["value"] if is_map(field) else field
    if not _is_text(value) or not _is_taken(field):
        return {}
    return {"maxLength": longest(field), "pattern": NO_NUL}


def of_keys(field: Any) -> Schema:
    """Return how long the keys of a request's map may be."""
    return {"propertyNames": {"maxLength": longest_key(field), "pattern": NO_NUL}} if _is_taken(field) else {}


def merged(one: Schema, other: Schema) -> Schema:
    """Return a schema with what another one says too, also of its items and values."""
    inner = {key: merged(one[key], other[key]) for key in one.keys() & other.keys() if isinstance(one[key], dict)}
    return {**one, **other, **inner}


def _filled(field: Any) -> Schema:
    """Return that what must be given is not given empty."""
    if field.is_repeated:
        return {"minItems": 1}
    return {"minLength": 1} if field.cpp_type == pb.FieldDescriptor.CPPTYPE_STRING else {}


def of_query(method: Method, field: Any) -> Schema:
    """Return what a parameter of a query is bounded by: the fields that can be filtered or ordered by, or changed."""
    if field.name == "filter":
        return {"pattern": filter_pattern(marked(_rows_of(method), options_pb2.filterable))}
    if field.name == "order_by":
        return {"pattern": rf"^(({_any(marked(_rows_of(method), options_pb2.sortable))})( (asc|desc))?)?$"}
    if field.name == "update_mask":
        names = _any(
            [one.name for one in _body_of(method).fields if not has_behavior(one, field_behavior_pb2.OUTPUT_ONLY)]
        )
        return {"pattern": rf"^(\*|({names})(,({names}))*)?$"}
    return of_field(field)


def required(descriptor: Any, *, but: Collection[str] = ()) -> Schema:
    """Return which fields of a message must be given."""
    names = [field.name for field in descriptor.fields if has_behavior(field, field_behavior_pb2.REQUIRED)]
    left = [name for name in names if name not in but]
    return {"required": left} if left else {}


def of_message(descriptor: Any) -> Schema:
    """Return what a message must hold wherever it stands; a resource that can be updated also stands in part."""
    return _one_of_each(descriptor) | ({} if descriptor.full_name in _updated() else required(descriptor))


def of_body(method: Method, resource: Any) -> Schema:
    """Return what a body must hold beside what its message must: what is new is whole, and has a name of ours."""
    if method.updates:
        return {}
    needed = required(resource).get("required", [])
    properties = {name: _filled(resource.fields_by_name[name]) for name in needed}
    if "name" in resource.fields_by_name:
        properties["name"] = {"pattern": f"^{NAME}$" if "name" in needed else f"^({NAME})?$"}
    return merged(required(resource) | {"properties": properties}, NEW.get(resource.full_name, {}))


def _rows_of(method: Method) -> Any:
    """Return the message that a list is of."""
    answer: Any = method.response.DESCRIPTOR
    return next(one.message_type for one in answer.fields if one.message_type is not None)


def _one_of_each(descriptor: Any) -> Schema:
    """Return that of fields that exclude each other one at most is given."""
    choices = [[field.name for field in one.fields] for one in descriptor.oneofs if len(one.fields) > 1]
    pairs = [list(pair) for names in choices for pair in combinations(names, 2)]
    if descriptor.full_name in _NEED_ONE:
        return {"oneOf": [{"required": [name]} for names in choices for name in names]}
    return {"allOf": [{"not": {"required": pair}} for pair in pairs]} if pairs else {}


def _is_text(field: Any) -> bool:
    return bool(field.type == pb.FieldDescriptor.TYPE_STRING)


def _is_taken(field: Any) -> bool:
    """Return whether a caller gives the field: what only services say is as long as it is."""
    return given_by_callers(field) and field.containing_type.full_name in _taken()


@cache
def _taken() -> set[str]:
    """Return the messages that requests are made of."""
    found: set[str] = set()
    waiting: list[Any] = [one.request.DESCRIPTOR for one in methods()]
    while waiting:
        message = waiting.pop()
        if message.full_name not in found:
            found.add(message.full_name)
            waiting += [
                field.message_type for field in message.fields if field.message_type and given_by_callers(field)
            ]
    return found


@cache
def _updated() -> set[str]:
    return {_body_of(one).full_name for one in methods() if one.updates}


@cache
def _resources() -> set[str]:
    return {_body_of(one).full_name for one in methods() if one.body not in ("", "*")}


def _body_of(method: Method) -> Any:
    request: Any = method.request.DESCRIPTOR
    return request.fields_by_name[method.body].message_type


def _any(names: Any) -> str:
    return "|".join(names)
