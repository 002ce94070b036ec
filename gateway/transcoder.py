"""HTTP/JSON to gRPC, driven by the protos' annotations: no endpoint is written twice.

A path variable is a field of the request, the body another one (or all of it), what is left comes from the query. Where
the body is one field, the request's other fields may stand beside the body's own (`quote` and `request_id` in one flat
object). Streams become server-sent events; `Idempotency-Key` fills `request_id`, `If-Match` the etag of an update,
`Last-Event-ID` the cursor.
"""

import json
import re
import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import unquote

from google.protobuf.message import Message

from gateway.context import text_of
from gateway.paths import OTHERS, guesses
from modelry.api_methods import Method, methods
from modelry.codec import CodecError, Problem, decode, input_names
from services.chassis.errors import Invalid, NotFound, Violation

CURSORS = ("after_version", "after", "after_step")
_VARIABLE = re.compile(r"\{([a-z_.]+)\}")
_ETAG = re.compile(r'(?:W/)?"?(\w+)"?')


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
    raise NotFound(f"There is no {raw_path}{hint(raw_path)}", reason="UNKNOWN_URL")


def hint(raw_path: str) -> str:
    """Return how a sentence about a path that nothing answers to ends: with the one that is probably meant."""
    meant = next((guess for guess in guesses(raw_path) if guess in OTHERS or _is_bound(guess)), "")
    return f"; did you mean {meant}?" if meant else "; /docs lists what there is."


def _is_bound(raw_path: str) -> bool:
    return any(binding.pattern.match(raw_path) for binding in _BINDINGS.get(_collection(raw_path), ()))


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
    except ValueError as error:
        raise Invalid("The body has a number with too many digits.", field="body", reason="INVALID_JSON") from error
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


def read_request(
    method: Method, variables: Mapping[str, str], query: Mapping[str, list[str]], raw: bytes, headers: Mapping[str, str]
) -> Message:
    """Return the request message of a call whose body is JSON. Raises: Invalid."""
    return build_request(method, variables, query, parse_json(raw), headers)


def build_request(
    method: Method, variables: Mapping[str, str], query: Mapping[str, list[str]], body: Any, headers: Mapping[str, str]
) -> Message:
    """Return the request message of a call. Raises: Invalid, with the path of every field that does not fit.

    Whatever a caller gives in two places must be the same in both: it is never ours to choose.
    """
    request = method.request()
    try:
        own, beside = _split_body(method, body)
        decode(beside, request)
        if method.body not in ("", "*"):
            target = getattr(request, method.body)
            target.SetInParent()
            decode(own, target)
        _fill_query(method, request, query, beside)
        method.mask_by_body(request, own)
        _fill_path(request, variables)
    except CodecError as error:
        violations = [Violation(problem.field, problem.message) for problem in error.problems]
        raise Invalid(str(error)[:2000], violations=violations) from error
    _fill_headers(method, request, headers)
    return request


def _split_body(method: Method, body: Any) -> tuple[Any, Any]:
    """Return the part of a body that is the resource, and the part that is the request's other fields."""
    if not method.body:
        if body:
            raise CodecError([Problem("body", "this method takes no body; use query parameters")])
        return {}, {}
    if method.body == "*":
        return {}, body
    if not isinstance(body, dict):
        return body, {}
    resource: Any = method.request.DESCRIPTOR.fields_by_name[method.body]
    names, own = input_names(method.request.DESCRIPTOR), input_names(resource.message_type)
    beside = {k: body[k] for k in body if k in names and k not in own and names[k].name != method.body}
    return {key: body[key] for key in body if key not in beside}, beside


def _fill_query(method: Method, request: Message, query: Mapping[str, list[str]], body: Mapping[str, Any]) -> None:
    fields = input_names(method.request.DESCRIPTOR)
    given = {fields[key].name for key in body}
    values: dict[str, Any] = {}
    for key, texts in query.items():
        field = fields.get(key)
        if field is None or field.name == method.body:
            known = ", ".join(f.name for f in method.request.DESCRIPTOR.fields if f.name != method.body)
            raise CodecError([Problem(key, f"unknown query parameter; known here: {known or 'none'}")])
        if field.name in given or (len(texts) > 1 and not field.is_repeated):
            raise CodecError([Problem(key, "it is given twice; give it once")])
        given.add(field.name)
        values[field.name] = texts if field.is_repeated else texts[-1]
    decode(values, request)


def _fill_path(request: Message, variables: Mapping[str, str]) -> None:
    for path, value in variables.items():
        *parents, name = path.split(".")
        target: Any = request
        for parent in parents:
            target = getattr(target, parent)
        if not parents and getattr(target, name) not in ("", value):  # a resource's own id is ignored, as it is fixed
            raise CodecError([Problem(name, f"it is {value!r} in the path; leave it out elsewhere")])
        try:
            setattr(target, name, value)
        except ValueError as error:  # protobuf's word for an unpaired surrogate
            raise CodecError([Problem(path, "it is not valid UTF-8 in the path")]) from error


def _fill_headers(method: Method, request: Any, headers: Mapping[str, str]) -> None:
    if method.creates:
        _fill_request_id(method, request, text_of(headers, "Idempotency-Key"))
    if match := headers.get("If-Match"):
        _fill_etag(method, request, match)
    if (last := headers.get("Last-Event-ID")) and method.server_streaming:
        # A browser that connects again repeats its first URL: the header is newer than a cursor in there.
        cursor = next((name for name in CURSORS if name in request.DESCRIPTOR.fields_by_name), "")
        if not cursor:
            raise Invalid("This stream has no cursor: leave Last-Event-ID out.", field="Last-Event-ID")
        if not re.fullmatch(r"-?\d{1,18}", last):
            raise Invalid("Last-Event-ID must be a number that an event's `id:` gave.", field="Last-Event-ID")
        setattr(request, cursor, int(last))


def _fill_request_id(method: Method, request: Any, key: str) -> None:
    if key and request.request_id not in ("", key):
        message = "Idempotency-Key differs from the request_id that is given too; give one of them."
        raise Invalid(message, field="Idempotency-Key")
    # With an id of its own a create can be repeated when its service was killed before it answered.
    request.request_id = request.request_id or key or ("" if method.repeatable else uuid.uuid4().hex)


def _fill_etag(method: Method, request: Any, header: str) -> None:
    if not method.updates:
        raise Invalid("If-Match is for updates: this method does not look at it.", field="If-Match")
    if header.strip() == "*":
        return
    tag, resource = _ETAG.fullmatch(header.strip()), getattr(request, method.body)
    if tag is None:
        raise Invalid('If-Match must be one etag, such as "3", or *.', field="If-Match")
    if resource.etag.strip('"') not in ("", tag[1]):
        raise Invalid("If-Match differs from the etag in the body; give one of them.", field="If-Match")
    resource.etag = tag[1]


def event_id(message: Message) -> int | None:
    """Return the cursor that a streamed message stands for: its version, sequence or step."""
    for name in ("sequence", "version", "step"):
        field = message.DESCRIPTOR.fields_by_name.get(name)
        if field is not None and isinstance(value := getattr(message, name), int):
            return value
    return None
