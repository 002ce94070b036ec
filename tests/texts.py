"""Every text that a request may hold, from the protos, and requests that hold one: for tests of what a text may be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from google.api import field_behavior_pb2
from google.protobuf.descriptor import FieldDescriptor

from modelry.api_methods import Method, has_behavior
from modelry.codec import is_map
from modelry.common.v1 import options_pb2
from services.chassis.field_options import LONGEST

MASK = "google.protobuf.FieldMask"
KEY = "a"


@dataclass(frozen=True)
class Text:
    """One text of a request: the fields that lead to it; or the keys of the map at their end."""

    chain: tuple[FieldDescriptor, ...]
    of_key: bool = False

    @property
    def longest(self) -> int:
        """How many characters it may have."""
        field = self.chain[-1]
        option = options_pb2.longest_key if self.of_key else options_pb2.longest
        return field.GetOptions().Extensions[option] or LONGEST

    @property
    def path(self) -> str:
        """What a refusal names it by."""
        return ".".join(self._step(field) for field in self.chain)

    def _step(self, field: FieldDescriptor) -> str:
        if field.message_type is not None and field.message_type.full_name == MASK:
            return f"{field.name}.paths[0]"
        if is_map(field):
            return field.name if self.of_key else f"{field.name}[{KEY}]"
        return f"{field.name}[0]" if field.is_repeated else str(field.name)

    def fields(self, value: str) -> dict[str, Any]:
        """The request's fields with this text as its value, as JSON has them."""
        inner: Any = value
        for field in reversed(self.chain):
            if is_map(field):
                inner = {value: _any_value(field)} if self.of_key else {KEY: inner}
            elif field.is_repeated:
                inner = [inner]
            inner = {field.name: inner}
        return dict(inner)


def _any_value(field: Any) -> object:
    kind = field.message_type.fields_by_name["value"].cpp_type
    return "" if kind == FieldDescriptor.CPPTYPE_STRING else 1


def texts(request: Any) -> Iterator[Text]:
    """Yield every text that callers may set; no message of ours holds itself."""
    for field in request.fields:
        if has_behavior(field, field_behavior_pb2.OUTPUT_ONLY) and field.name != "id":
            continue
        kind: Any = field.message_type
        if is_map(field):
            yield Text((field,), of_key=True)
            if kind.fields_by_name["value"].cpp_type == FieldDescriptor.CPPTYPE_STRING:
                yield Text((field,))
        elif field.type == FieldDescriptor.TYPE_STRING or (kind is not None and kind.full_name == MASK):
            yield Text((field,))
        elif kind is not None:
            yield from (Text((field, *text.chain), text.of_key) for text in texts(kind))


def as_http(method: Method, fields: dict[str, Any]) -> tuple[str, bytes | None]:
    """The path with its query, and the body, of a call over HTTP with these fields."""
    left: dict[str, Any] = {name: dict(value) if isinstance(value, dict) else value for name, value in fields.items()}
    path = method.template
    while "{" in path:
        head, _, tail = path.partition("{")
        variable, _, tail = tail.partition("}")
        parent, _, name = variable.rpartition(".")
        value: str = (left.get(parent, {}) if parent else left).pop(name, "x")
        path = head + quote(value, safe="") + tail
    body: Any = None
    if method.body == "*" and not method.client_streaming:
        body, left = left, {}
    elif method.body and not method.client_streaming:
        body = left.pop(method.body, {})
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in left.items())
    return f"{path}?{query}", None if body is None else json.dumps(body).encode()
