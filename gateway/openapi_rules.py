"""Rules of requests that the schema can say: what is refused whatever is stored, from the protos and the codec."""

from functools import cache
from itertools import combinations
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf import descriptor as pb

from modelry.api_methods import SERVICES, Method, has_behavior, methods
from modelry.common.v1 import options_pb2
from services.chassis.field_options import marked
from services.chassis.names import NAME, PAIR_KEY_CHARACTERS, PAIR_VALUE_CHARACTERS, PAIRS, TITLE_CHARACTERS

Schema = dict[str, Any]

CLOSED: Schema = {"type": "object", "additionalProperties": False}
"""A field that is not known is refused."""
DURATION: Schema = {"type": "string", "pattern": r"^-?[0-9]{1,9}(\.[0-9]{1,9})?s$", "examples": ["3.5s"]}
MONEY: Schema = {"type": "string", "pattern": r"^-?[0-9]{1,18}(\.[0-9]{1,9})?$", "examples": ["12.34"]}
ETAG: Schema = {"type": "string", "pattern": r'^(\*|(W/)?"?[0-9A-Za-z_]+"?)$'}
INTEGERS: dict[int, tuple[int, int]] = {
    pb.FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    pb.FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    pb.FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    pb.FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_NAMED: dict[str, Schema] = {
    "page_size": {"minimum": 0, "maximum": 1000},
    "title": {"maxLength": TITLE_CHARACTERS},
    "metadata": {
        "maxProperties": PAIRS,
        "propertyNames": {"minLength": 1, "maxLength": PAIR_KEY_CHARACTERS},
        "additionalProperties": {"type": "string", "maxLength": PAIR_VALUE_CHARACTERS},
    },
}
"""Fields that mean the same everywhere."""


def of_field(field: Any) -> Schema:
    """Return what a field's values are bounded by, beside its type."""
    options = field.GetOptions()
    bounds = {
        name: options.Extensions[option]
        for name, option in (("minimum", options_pb2.minimum), ("maximum", options_pb2.maximum))
        if options.HasExtension(option)
    }
    return {**_NAMED.get(field.name, {}), **bounds}


def of_query(method: Method, field: Any) -> Schema:
    """Return what a parameter of a query is bounded by: the fields that can be ordered by, or changed."""
    if field.name == "order_by":
        answer: Any = method.response.DESCRIPTOR
        rows = next(one.message_type for one in answer.fields if one.message_type is not None)
        return {"pattern": rf"^(({_any(marked(rows, options_pb2.sortable))})( (asc|desc))?)?$"}
    if field.name == "update_mask":
        resource: Any = method.request.DESCRIPTOR.fields_by_name[method.body].message_type
        names = _any([one.name for one in resource.fields if not has_behavior(one, field_behavior_pb2.OUTPUT_ONLY)])
        return {"pattern": rf"^(\*|({names})(,({names}))*)?$"}
    if field.full_name == "modelry.admin.v1.ListDeadLettersRequest.service":
        return {"enum": ["", *SERVICES]}
    return of_field(field)


def of_message(descriptor: Any) -> Schema:
    """Return what a message must hold wherever it stands; a resource that can be updated also stands in part."""
    return _one_of_each(descriptor) | ({} if descriptor.full_name in _updated() else _required(descriptor))


def of_body(method: Method, resource: Any) -> Schema:
    """Return what a body must hold beside what its message must: what is new is whole, and has a name of ours."""
    if method.updates:
        return {}
    named = "name" in resource.fields_by_name
    return _required(resource) | ({"properties": {"name": {"pattern": f"^({NAME})?$"}}} if named else {})


def _one_of_each(descriptor: Any) -> Schema:
    """Return that of fields that exclude each other one at most is given."""
    choices = [[field.name for field in one.fields] for one in descriptor.oneofs if len(one.fields) > 1]
    pairs = [list(pair) for names in choices for pair in combinations(names, 2)]
    return {"allOf": [{"not": {"required": pair}} for pair in pairs]} if pairs else {}


@cache
def _updated() -> set[str]:
    bodies: list[tuple[Any, str]] = [(one.request.DESCRIPTOR, one.body) for one in methods() if one.updates]
    return {request.fields_by_name[body].message_type.full_name for request, body in bodies}


def _required(descriptor: Any) -> Schema:
    names = [field.name for field in descriptor.fields if has_behavior(field, field_behavior_pb2.REQUIRED)]
    return {"required": names} if names else {}


def _any(names: Any) -> str:
    return "|".join(names)
