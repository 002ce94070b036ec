"""What a request must have before any code sees it, read from the protos' own annotations.

A field with `(google.api.field_behavior) = REQUIRED` must not be empty, and a number must be inside its `minimum` and
`maximum`, at any depth of a message that is present. In a message with an `update_mask` only the top level must be
complete: what is below is a partial resource. OUTPUT_ONLY fields are ignored on input (AIP-203).
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
from services.chassis.field_options import bound_words, bounds

_MOST_VIOLATIONS = 20
_MASK = "update_mask"
_ZERO_IS_EMPTY = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_ENUM)


@dataclass
class _Plan:
    """What to look at in one message type."""

    required: list[FieldDescriptor] = field(default_factory=list)
    bounded: list[tuple[FieldDescriptor, float, float]] = field(default_factory=list)
    nested: list[FieldDescriptor] = field(default_factory=list)


def read_request(deserialize: Callable[[bytes], Any], data: bytes) -> Any:
    """Return the message of a request. Raises: Invalid: its bytes are no such message."""
    try:
        return deserialize(data)
    except DecodeError as error:
        raise Invalid("The request's bytes are no message of this method.", reason="INVALID_MESSAGE") from error


def validate(message: Message) -> None:
    """Refuse a message with an empty required field or a number out of bounds.

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


@lru_cache(maxsize=4096)
def _plan(descriptor: Descriptor) -> _Plan:
    """Return the plan of one type. Built once: descriptors live as long as the process."""
    plan = _Plan()
    for candidate, required, pair, below in _inputs(descriptor):
        if required:
            plan.required.append(candidate)
        if pair is not None:
            plan.bounded.append((candidate, *pair))
        if below is not None and _has_rules(below, frozenset()):
            plan.nested.append(candidate)
    return plan


def _has_rules(descriptor: Descriptor, seen: frozenset[str]) -> bool:
    """Return whether anything at or below a type has a rule; `seen` ends recursive types."""
    if descriptor.full_name in seen:
        return False
    seen |= {descriptor.full_name}
    return any(
        required or pair is not None or (below is not None and _has_rules(below, seen))
        for _, required, pair, below in _inputs(descriptor)
    )


def _inputs(
    descriptor: Descriptor,
) -> Iterator[tuple[FieldDescriptor, bool, tuple[float, float] | None, Descriptor | None]]:
    """Yield what callers set: field, whether it is required, its bounds, and the message type it or its map holds."""
    for candidate in descriptor.fields:
        behaviors = candidate.GetOptions().Extensions[field_behavior_pb2.field_behavior]
        if field_behavior_pb2.OUTPUT_ONLY not in behaviors:
            below = candidate.message_type
            if below is not None and below.GetOptions().map_entry:
                below = below.fields_by_name["value"].message_type
            yield candidate, field_behavior_pb2.REQUIRED in behaviors, bounds(candidate), below
