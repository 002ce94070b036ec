"""Messages to JSON and back, the same everywhere: HTTP, events, files, `--json`.

Names are the proto's own (snake_case); 64-bit numbers are numbers; fields without presence are always printed; times
are RFC 3339, durations `"3.5s"`, money a decimal string, enum values bare words. Input also takes camelCase names,
integers as strings and enum words in any case; what it cannot take is refused with the path of the field.
"""

import base64
import binascii
import math
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, TypeVar

from google.api import field_behavior_pb2
from google.protobuf import descriptor as pb
from google.protobuf.message import Message

from modelry.api_methods import has_behavior
from modelry.json_types import SPECIAL

Field = pb.FieldDescriptor
M = TypeVar("M", bound=Message)
_INTEGERS = {
    Field.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    Field.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    Field.CPPTYPE_UINT32: (0, 2**32 - 1),
    Field.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_LARGEST_FLOAT = (2 - 2**-23) * 2.0**127
_MOST_PROBLEMS = 20


@dataclass(frozen=True)
class Problem:
    """One value that a message cannot take: its path (`datasets[0].ref`), and what was expected."""

    field: str
    message: str


class CodecError(ValueError):
    """JSON that does not fit the message; `problems` has one entry for each field."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(f"{p.field}: {p.message}" if p.field else p.message for p in problems))
        self.problems = problems


# --- messages to JSON ---


def encode(message: Message) -> dict[str, Any]:
    """Return a message as values that `json.dumps` takes. Input-only fields (secrets) are left out."""
    result: dict[str, Any] = {}
    for field in _output_fields(message.DESCRIPTOR):
        if field.has_presence:
            if message.HasField(field.name):
                result[field.name] = _encode_value(field, getattr(message, field.name))
        elif is_map(field):
            value_field = field.message_type.fields_by_name["value"]
            items = getattr(message, field.name)
            result[field.name] = {_encode_key(key): _encode_value(value_field, items[key]) for key in sorted(items)}
        elif field.is_repeated:
            result[field.name] = [_encode_value(field, item) for item in getattr(message, field.name)]
        else:
            result[field.name] = _encode_value(field, getattr(message, field.name))
    return result


@cache
def _output_fields(descriptor: pb.Descriptor) -> tuple[Any, ...]:
    return tuple(field for field in descriptor.fields if not has_behavior(field, field_behavior_pb2.INPUT_ONLY))


def _encode_key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _encode_value(field: Any, value: Any) -> Any:
    if field.cpp_type == Field.CPPTYPE_MESSAGE:
        special = SPECIAL.get(field.message_type.full_name)
        return special[0](value) if special else encode(value)
    if field.cpp_type == Field.CPPTYPE_ENUM:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else value
    if field.type == Field.TYPE_BYTES:
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if field.cpp_type == Field.CPPTYPE_FLOAT:
        return float(f"{value:.9g}")
    return value


# --- JSON to messages ---


def decode(data: Any, message: M, path: str = "") -> M:
    """Fill a message from parsed JSON. Raises: CodecError, naming every field that does not fit (at most 20)."""
    problems = list(islice(_fill(data, message, path), _MOST_PROBLEMS))
    if problems:
        raise CodecError(problems)
    return message


def _fill(data: Any, message: Message, path: str) -> Iterator[Problem]:
    if not isinstance(data, Mapping):
        yield Problem(path, f"expected an object, got {_kind(data)}")
        return
    names = input_names(message.DESCRIPTOR)
    chosen: dict[str, str] = {}
    given: set[str] = set()
    for key, value in data.items():
        here = f"{path}.{key}" if path else str(key)
        field = names.get(key)
        if field is None:
            yield Problem(
                here, f"unknown field; known here: {', '.join(f.name for f in message.DESCRIPTOR.fields) or 'none'}"
            )
            continue
        if field.name in given:
            yield Problem(here, f"it is given twice; write it once, as {field.name!r}")
            continue
        given.add(field.name)
        if value is None:
            continue
        oneof = field.containing_oneof
        if oneof is not None and chosen.setdefault(oneof.name, field.name) != field.name:
            yield Problem(here, f"excludes {chosen[oneof.name]!r}: give one of them")
            continue
        yield from _fill_field(field, value, message, here)


@cache
def input_names(descriptor: pb.Descriptor) -> dict[str, Any]:
    """Return the fields of a message by every name that an input may give them."""
    names: dict[str, Any] = {field.camelcase_name: field for field in descriptor.fields}
    names.update({field.name: field for field in descriptor.fields})
    return names


def _fill_field(field: Any, value: Any, message: Message, path: str) -> Iterator[Problem]:
    if is_map(field):
        yield from _fill_map(field, value, message, path)
    elif field.is_repeated:
        yield from _fill_list(field, value, message, path)
    elif field.cpp_type == Field.CPPTYPE_MESSAGE:
        child = getattr(message, field.name)
        child.SetInParent()
        yield from _fill_message(field.message_type, value, child, path)
    else:
        parsed, problem = _parse_scalar(field, value)
        if problem:
            yield Problem(path, problem)
        else:
            setattr(message, field.name, parsed)


def _fill_message(descriptor: pb.Descriptor, value: Any, child: Message, path: str) -> Iterator[Problem]:
    special = SPECIAL.get(descriptor.full_name)
    if special is None:
        yield from _fill(value, child, path)
        return
    try:
        special[1](value, child)
    except (ValueError, TypeError, ArithmeticError):
        yield Problem(path, f"expected {special[2]}, got {_kind(value)} {_short(value)}")


def _fill_list(field: Any, value: Any, message: Message, path: str) -> Iterator[Problem]:
    if not isinstance(value, list | tuple):
        yield Problem(path, f"expected a list, got {_kind(value)}")
        return
    target = getattr(message, field.name)
    for index, item in enumerate(value):
        here = f"{path}[{index}]"
        if field.cpp_type == Field.CPPTYPE_MESSAGE:
            yield from _fill_message(field.message_type, item, target.add(), here)
            continue
        parsed, problem = _parse_scalar(field, item)
        if problem:
            yield Problem(here, problem)
        else:
            target.append(parsed)


def _fill_map(field: Any, value: Any, message: Message, path: str) -> Iterator[Problem]:
    if not isinstance(value, Mapping):
        yield Problem(path, f"expected an object, got {_kind(value)}")
        return
    key_field, value_field = (field.message_type.fields_by_name[name] for name in ("key", "value"))
    target = getattr(message, field.name)
    for key, item in value.items():
        here = f"{path}.{key}"
        parsed_key, problem = _parse_scalar(key_field, key)
        if not problem and value_field.cpp_type == Field.CPPTYPE_MESSAGE:
            yield from _fill_message(value_field.message_type, item, target[parsed_key], here)
            continue
        parsed, problem = (None, problem) if problem else _parse_scalar(value_field, item)
        if problem:
            yield Problem(here, problem)
        else:
            target[parsed_key] = parsed


def _parse_scalar(field: Any, value: Any) -> tuple[Any, str]:
    """Return the value as the field takes it and no problem, or nothing and what was expected."""
    kind = field.cpp_type
    if kind == Field.CPPTYPE_BOOL:
        if isinstance(value, bool):
            return value, ""
        if value in ("true", "false"):
            return value == "true", ""
        return None, f"expected true or false, got {_kind(value)} {_short(value)}"
    if kind in _INTEGERS:
        return _parse_integer(kind, value)
    if kind in (Field.CPPTYPE_DOUBLE, Field.CPPTYPE_FLOAT):
        return _parse_number(value, _LARGEST_FLOAT if kind == Field.CPPTYPE_FLOAT else sys.float_info.max)
    if kind == Field.CPPTYPE_ENUM:
        return _parse_enum(field.enum_type, value)
    if not isinstance(value, str):
        return None, f"expected a string, got {_kind(value)} {_short(value)}"
    if field.type == Field.TYPE_BYTES:
        try:
            return base64.b64decode(value, validate=True), ""
        except (binascii.Error, ValueError):
            return None, "expected base64"
    try:
        value.encode()
    except UnicodeEncodeError:
        return None, "expected text without unpaired surrogates"
    return value, ""


def _parse_integer(kind: int, value: Any) -> tuple[int | None, str]:
    low, high = _INTEGERS[kind]
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,20}", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None, f"expected a whole number, got {_kind(value)} {_short(value)}"
    if not low <= value <= high:
        return None, f"expected {low} to {high}, got {value}"
    return value, ""


def _parse_number(value: Any, largest: float) -> tuple[float | None, str]:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None, f"expected a number, got {_kind(value)} {_short(value)}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None, f"expected a number, got {_kind(value)} {_short(value)}"
    if not -largest <= value <= largest:  # not a number is outside too
        return None, f"expected a number from {-largest:g} to {largest:g}"
    return float(value), ""


def _parse_enum(enum: pb.EnumDescriptor, value: Any) -> tuple[int | None, str]:
    numbers, given = _numbers_of(enum), value
    if isinstance(value, str):
        value = numbers.get(value.upper().replace("-", "_"))
    if type(value) is int and value in numbers.values():
        return value, ""
    return None, f"expected one of {', '.join(name for name, number in numbers.items() if number)}; got {_short(given)}"


@cache
def _numbers_of(enum: pb.EnumDescriptor) -> dict[str, int]:
    """Return an enum's numbers by name; protobuf's own maps cut numbers to 32 bits and break on odd text."""
    return {value.name: value.number for value in enum.values}


def is_map(field: Any) -> bool:
    """Return whether a field is a map."""
    return field.is_repeated and field.message_type is not None and field.message_type.GetOptions().map_entry


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return "null" if value is None else kinds.get(type(value), "a value")


def _short(value: Any) -> str:
    if value is None or isinstance(value, dict | list):
        return ""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
