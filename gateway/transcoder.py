"""HTTP/JSON to gRPC, driven by the protos' annotations: no endpoint is written twice.

A path variable is a field of the request, the body another one (or all of it), what is left comes from the query. Where
the body is one field, the request's other fields may stand beside the body's own (`quote` and `request_id` in one flat
object). Streams become server-sent events; `Idempotency-Key` fills `request_id`, `Last-Event-ID` the cursor.
"""

from __future__ import annotations

import json
import re
import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import unquote

from google.protobuf.message import Message

from modelry.api_methods import Method, methods
from modelry.codec import CodecError, Problem, decode, input_names
from services.chassis.errors import Invalid, NotFound, Violation

CURSORS = ("after_version", "after", "after_step")
_VARIABLE = re.compile(r"\{([a-z_.]+)\}")


class MethodNotAllowed(NotFound):
    """The path is known, the HTTP method is not; `allow` lists those that are."""


@dataclass(frozen=True)
class Binding:
    """One method, and how its path is read."""

    method: Method
    pattern: re.Pattern[str]
    variables: tuple[str, ...]


def _bindings() -> dict[str, list[Binding]]:
    """Return the bindings by their paths' first noun, so that a call is compared with few of them.

    Methods with a verb (`:stop`) are first, since a name also matches what a verb ends.
    """
    groups: dict[str, list[Binding]] = defaultdict(list)
    for method in sorted(methods(), key=lambda m: (":" not in m.template.rsplit("/", 1)[-1], -m.template.count("/"))):
        pieces = _VARIABLE.split(method.template)
        pattern = "".join("([^/]+)" if index % 2 else re.escape(piece) for index, piece in enumerate(pieces))
        groups[_collection(method.template)].append(Binding(method, re.compile(pattern + "$"), tuple(pieces[1::2])))
    return dict(groups)


def _collection(path: str) -> str:
    """Return the first noun of a path: `jobs` of `/api/v1/jobs/{job}:stop`."""
    pieces = path.split("/", 4)
    return pieces[3].partition(":")[0] if len(pieces) > 3 else ""


_BINDINGS = _bindings()


def find(verb: str, raw_path: str) -> tuple[Method, dict[str, str]]:
    """Return the method of a path (still percent-encoded), with its variables. Raises: NotFound, MethodNotAllowed."""
    allowed = set()
    for binding in _BINDINGS.get(_collection(raw_path), ()):
        match = binding.pattern.match(raw_path)
        if match is None:
            continue
        if binding.method.verb == verb:
            return binding.method, dict(zip(binding.variables, map(unquote, match.groups()), strict=True))
        allowed.add(binding.method.verb)
    if allowed:
        words = ", ".join(sorted(allowed))
        raise MethodNotAllowed(
            f"{verb} is not possible on {raw_path}; use {words}.",
            reason="METHOD_NOT_ALLOWED",
            metadata={"allow": words},
        )
    raise NotFound(f"There is no {raw_path}; /docs lists what there is.", reason="UNKNOWN_URL")


def parse_json(body: bytes) -> Any:
    """Return the body as JSON; an empty one is an empty object. Raises: Invalid, with line and column."""
    if not body.strip():
        return {}
    try:
        return json.loads(body, parse_constant=_refuse_constant, object_pairs_hook=_refuse_duplicates)
    except json.JSONDecodeError as error:
        message = f"The body is not valid JSON: {error.msg} at line {error.lineno} column {error.colno}."
        raise Invalid(message, field="body", reason="INVALID_JSON") from error
    except UnicodeDecodeError as error:
        message = f"The body is not valid UTF-8 at byte {error.start}."
        raise Invalid(message, field="body", reason="INVALID_JSON") from error
    except RecursionError as error:
        raise Invalid("The body is nested too deeply.", field="body", reason="INVALID_JSON") from error


def _refuse_constant(word: str) -> NoReturn:
    raise Invalid(f"The body is not valid JSON: {word} is no JSON number.", field="body", reason="INVALID_JSON")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Invalid(f"The body has the field {twice!r} twice.", field=twice, reason="INVALID_JSON")
    return result


def build_request(
    method: Method, variables: Mapping[str, str], query: Mapping[str, list[str]], body: Any, headers: Mapping[str, str]
) -> Message:
    """Return the request message of a call. Raises: Invalid, with the path of every field that does not fit."""
    request = method.request()
    try:
        _fill_body(method, request, body)
        _fill_query(method, request, query)
    except CodecError as error:
        violations = [Violation(problem.field, problem.message) for problem in error.problems]
        raise Invalid(str(error)[:2000], violations=violations) from error
    for path, value in variables.items():
        _set_path(request, path, value)
    _fill_headers(method, request, headers)
    return request


def _fill_body(method: Method, request: Message, body: Any) -> None:
    fields = method.request.DESCRIPTOR.fields_by_name
    if not method.body:
        if body:
            raise CodecError([Problem("body", "this method takes no body; use query parameters")])
        return
    if method.body == "*":
        decode(body, request)
        return
    own: Any = getattr(request, method.body).DESCRIPTOR.fields_by_name
    if isinstance(body, dict):
        beside = {key: body[key] for key in body if key in fields and key not in own and key != method.body}
        body = {key: value for key, value in body.items() if key not in beside}
        decode(beside, request)
    target = getattr(request, method.body)
    target.SetInParent()
    decode(body, target)
    method.mask_by_body(request, body)


def _fill_query(method: Method, request: Message, query: Mapping[str, list[str]]) -> None:
    fields = input_names(method.request.DESCRIPTOR)
    values: dict[str, Any] = {}
    for key, texts in query.items():
        field = fields.get(key)
        if field is None or field.name == method.body:
            known = ", ".join(f.name for f in method.request.DESCRIPTOR.fields if f.name != method.body)
            raise CodecError([Problem(key, f"unknown query parameter; known here: {known or 'none'}")])
        values[field.name] = texts if field.is_repeated else texts[-1]
    decode(values, request)


def _set_path(request: Message, path: str, value: str) -> None:
    *parents, name = path.split(".")
    target: Any = request
    for parent in parents:
        target = getattr(target, parent)
    setattr(target, name, value)


def _fill_headers(method: Method, request: Message, headers: Mapping[str, str]) -> None:
    fields = method.request.DESCRIPTOR.fields_by_name
    if method.creates and not request.request_id:  # type: ignore[attr-defined]
        # With an id of its own a create can be repeated when its service was killed before it answered.
        own = "" if method.repeatable else uuid.uuid4().hex
        request.request_id = headers.get("Idempotency-Key") or own  # type: ignore[attr-defined]
    last = headers.get("Last-Event-ID")
    cursor = next((name for name in CURSORS if name in fields), None)
    if last and cursor and method.server_streaming:
        if not re.fullmatch(r"-?\d{1,18}", last):
            raise Invalid("Last-Event-ID must be a number that an event's `id:` gave.", field="Last-Event-ID")
        setattr(request, cursor, int(last))


def event_id(message: Message) -> int | None:
    """Return the cursor that a streamed message stands for: its version, sequence or step."""
    for name in ("sequence", "version", "step"):
        field = message.DESCRIPTOR.fields_by_name.get(name)
        if field is not None and isinstance(value := getattr(message, name), int):
            return value
    return None
