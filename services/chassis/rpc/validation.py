"""What a request must have before any code sees it, read from the protos' own annotations.

A field with `(google.api.field_behavior) = REQUIRED` must not be empty, a number must be inside its `minimum` and
`maximum`, and a text has at most `longest` characters and no NUL (which PostgreSQL, paths and subjects cannot hold), at
any depth of a message that is present. In a message with an `update_mask` only the top level must be complete: what is
below is a partial resource. OUTPUT_ONLY fields are ignored on input (AIP-203).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from services.chassis.errors import Invalid, Violation
from services.chassis.field_options import bound_words, bounds, given_by_callers, longest, longest_key

_MOST_VIOLATIONS = 20
_MASK = "update_mask"
_ZERO_IS_EMPTY = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_ENUM)


@dataclass
class _Plan:
    """What to look at in one message type."""

    required: list[FieldDescriptor] = field(default_factory=list)
    bounded: list[tuple[FieldDescriptor, float, float]] = field(default_factory=list)
    texts: list[FieldDescriptor] = field(default_factory=list)
    maps: list[FieldDescriptor] = field(default_factory=list)
    nested: list[FieldDescriptor] = field(default_factory=list)


def read_request(deserialize: Callable[[bytes], Any], data: bytes) -> Any:
    """Return the message of a request. Raises: Invalid: its bytes are no such message."""
    try:
        return deserialize(data)
    except DecodeError as error:
        raise Invalid("The request's bytes are no message of this method.", reason="INVALID_MESSAGE") from error


def validate(message: Message) -> None:
    """Refuse a message with an empty required field, a number out of bounds, or a text that is too long or has a NUL.

    Raises: Invalid, naming the paths of up to 20 fields.
    """
    violations = list(islice(_violations(message, "", partial=False), _MOST_VIOLATIONS))
    if violations:
        raise Invalid.of(violations)


def _violations(message: Message, prefix: str, partial: bool) -> Iterator[Violation]:
    plan = _plan(message.DESCRIPTOR)
    for required in plan.required:
        if not partial and _is_empty(message, required):
            path = prefix + required.name
            yield Violation(path, f"{path} is required", "REQUIRED_FIELD")
    for bounded, low, high in plan.bounded:
        yield from _out_of_bounds(message, bounded, low, high, prefix)
    for text in plan.texts:
        yield from _bad_texts(message, text, prefix)
    for held in plan.maps:
        yield from _bad_entries(message, held, prefix)
    partial = partial or _MASK in message.DESCRIPTOR.fields_by_name
    for nested in plan.nested:
        for path, value in _values(message, nested, prefix):
            yield from _violations(value, path, partial)


def _values(message: Message, nested: FieldDescriptor, prefix: str) -> Iterator[tuple[str, Message]]:
    """Yield the messages that a field holds, each with the prefix of the paths below it."""
    value = getattr(message, nested.name)
    if nested.message_type is not None and nested.message_type.GetOptions().map_entry:
        yield from ((f"{prefix}{nested.name}[{key}].", item) for key, item in value.items())
    elif nested.is_repeated:
        yield from ((f"{prefix}{nested.name}[{index}].", item) for index, item in enumerate(value))
    elif message.HasField(nested.name):
        yield f"{prefix}{nested.name}.", value


def _is_empty(message: Message, required: FieldDescriptor) -> bool:
    if required.is_repeated:
        return len(getattr(message, required.name)) == 0
    if required.has_presence and not message.HasField(required.name):
        return True
    # For a number or a boolean without presence, zero is a value like others: "required" says nothing there.
    return required.type in _ZERO_IS_EMPTY and not getattr(message, required.name)


def _out_of_bounds(
    message: Message, bounded: FieldDescriptor, low: float, high: float, prefix: str
) -> Iterator[Violation]:
    value = getattr(message, bounded.name)
    # A number without presence that is zero was not given: its default stands.
    if not bounded.is_repeated and not (message.HasField(bounded.name) if bounded.has_presence else value):
        return
    for index, number in enumerate(value if bounded.is_repeated else (value,)):
        if not low <= number <= high:
            path = f"{prefix}{bounded.name}" + (f"[{index}]" if bounded.is_repeated else "")
            yield Violation(path, f"{path} is {number:g}, and must be {bound_words(low, high)}", "OUT_OF_RANGE")


def _bad_texts(message: Message, text: FieldDescriptor, prefix: str) -> Iterator[Violation]:
    """Yield what is wrong with a text, or with each of a list."""
    value, most = getattr(message, text.name), longest(text)
    for index, one in enumerate(value if text.is_repeated else (value,)):
        if _is_bad(one, most):
            yield _text_fault(f"{prefix}{text.name}" + (f"[{index}]" if text.is_repeated else ""), one, most)


def _bad_entries(message: Message, held: FieldDescriptor, prefix: str) -> Iterator[Violation]:
    """Yield what is wrong with the keys of a map, and with values that are texts."""
    path, most, most_of_key = f"{prefix}{held.name}", longest(held), longest_key(held)
    for key, value in getattr(message, held.name).items():
        if _is_bad(key, most_of_key):
            yield _text_fault(path, key, most_of_key, " in a key")
        elif isinstance(value, str) and _is_bad(value, most):
            yield _text_fault(f"{path}[{key}]", value, most)


def _is_bad(text: str, most: int) -> bool:
    return len(text) > most or "\0" in text


def _text_fault(path: str, text: str, most: int, where: str = "") -> Violation:
    """Return what is wrong with a text, without showing it: it may be a secret."""
    if len(text) > most:
        return Violation.of(path, f"has {len(text):,} characters{where}, and may have {most:,}", "TOO_LONG")
    return Violation.of(path, f"has a NUL character{where}, which no text may have", "HAS_NUL")


@lru_cache(maxsize=4096)
def _plan(descriptor: Descriptor) -> _Plan:
    """Return the plan of one type. Built once: descriptors live as long as the process."""
    plan = _Plan()
    for candidate in filter(given_by_callers, descriptor.fields):
        below: Any = candidate.message_type
        if below is not None and below.GetOptions().map_entry:
            if below.fields_by_name["key"].type == FieldDescriptor.TYPE_STRING:
                plan.maps.append(candidate)
            below = below.fields_by_name["value"].message_type
        elif candidate.type == FieldDescriptor.TYPE_STRING:
            plan.texts.append(candidate)
        if field_behavior_pb2.REQUIRED in candidate.GetOptions().Extensions[field_behavior_pb2.field_behavior]:
            plan.required.append(candidate)
        if (pair := bounds(candidate)) is not None:
            plan.bounded.append((candidate, *pair))
        if below is not None:
            plan.nested.append(candidate)
    return plan
