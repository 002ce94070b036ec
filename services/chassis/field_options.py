"""What the protos' own options say of fields: which may be filtered and sorted by, and their bounds and lengths."""

import math
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from modelry.common.v1 import options_pb2

LONGEST = 1000
"""Most characters of a text in a request whose field says nothing else."""


def marked(descriptor: Any, option: Any) -> tuple[str, ...]:
    """Return the names of the fields of a message that have a boolean option."""
    return tuple(field.name for field in descriptor.fields if field.GetOptions().Extensions[option])


def bounds(field: Any) -> tuple[float, float] | None:
    """Return the smallest and largest value of a number, infinite where there is none; None without any bound."""
    options = field.GetOptions()
    low, high = (options.HasExtension(option) for option in (options_pb2.minimum, options_pb2.maximum))
    if not low and not high:
        return None
    return (
        options.Extensions[options_pb2.minimum] if low else -math.inf,
        options.Extensions[options_pb2.maximum] if high else math.inf,
    )


def bound_words(low: float, high: float) -> str:
    """Return bounds in words: `from 0 to 1`, `at least 0`, `at most 1`."""
    if math.isinf(high):
        return f"at least {low:g}"
    return f"at most {high:g}" if math.isinf(low) else f"from {low:g} to {high:g}"


def ranges(descriptor: Descriptor) -> dict[str, tuple[float, float]]:
    """Return the bounds of every number of a message that has some."""
    pairs = ((field.name, bounds(field)) for field in descriptor.fields)
    return {name: pair for name, pair in pairs if pair is not None}


def longest(field: FieldDescriptor) -> int:
    """Return how many characters a text may have in a request: each one of a list, each value of a map."""
    return field.GetOptions().Extensions[options_pb2.longest] or LONGEST


def longest_key(field: FieldDescriptor) -> int:
    """Return how many characters a key of a map may have in a request."""
    return field.GetOptions().Extensions[options_pb2.longest_key] or LONGEST


def given_by_callers(field: FieldDescriptor) -> bool:
    """Return whether a request's field is read: what is OUTPUT_ONLY is not, but the `id` that says what to update."""
    behaviors = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.OUTPUT_ONLY not in behaviors or field.name == "id"
