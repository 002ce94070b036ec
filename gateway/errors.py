"""The three envelopes of an error: native, OpenAI's, Anthropic's; what each holds comes from one table.

`services.chassis.errors` says which HTTP status an error has; this module only wraps it for the door it came through.
"""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from aiohttp import web
from google.rpc import code_pb2

from gateway.context import REQUEST_ID, new_request_id
from services.chassis.errors import INTERNAL_MESSAGE, Invalid, ModelryError, OverLimit, TooSlow, Unavailable, code_of

OWN_HEADERS = {"Server": "modelry"}
OPENAI_TYPES = {
    **dict.fromkeys((400, 401, 403, 404, 408, 409, 410, 413, 415), "invalid_request_error"),
    429: "requests",
}
ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}


@dataclass(frozen=True)
class Answer:
    """An error as HTTP gives it: status, body and headers."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


def wrap(error: ModelryError, path: str, request_id: str) -> Answer:
    """Return the error in the envelope of the door that `path` belongs to."""
    code, status = code_of(error)
    message, reason = error.message, error.reason
    if status == 500:
        message, reason = INTERNAL_MESSAGE, "INTERNAL"
    headers: dict[str, str] = {}
    may_pass = isinstance(error, OverLimit | Unavailable)
    if may_pass and error.retry_seconds:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_seconds)))
    elif may_pass or (status < 500 and not isinstance(error, TooSlow)):
        headers["x-should-retry"] = "false"
    path = "/" + path.lstrip("/")  # with a slash too many it is still that door's
    if path.startswith("/v1/messages"):
        kind = ANTHROPIC_TYPES.get(status, "api_error")
        body: dict[str, Any] = {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}
    elif path.startswith("/v1"):
        body = {"error": openai_error(error, status, message, reason)}
    else:
        body = {"error": native_error(error, code, status, message, reason, request_id)}
    return Answer(status, body, headers)


def respond(error: ModelryError, request: web.BaseRequest) -> web.Response:
    """Return the error as the answer of a request, whoever refuses it."""
    request_id = request.get(REQUEST_ID) or new_request_id()
    answer = wrap(error, request.path, request_id)
    headers = {**OWN_HEADERS, **answer.headers, "x-request-id": request_id}
    if allow := error.metadata.get("allow"):
        headers["Allow"] = allow
    return web.json_response(answer.body, status=405 if allow else answer.status, headers=headers)


def openai_error(error: ModelryError, status: int, message: str, reason: str) -> dict[str, Any]:
    """Return OpenAI's `error`: message, type, param, code."""
    kind = OPENAI_TYPES.get(status, "server_error")
    if reason == "INSUFFICIENT_QUOTA":
        kind = "insufficient_quota"
    param = error.field or None if isinstance(error, Invalid) else error.metadata.get("param")
    return {"message": message, "type": kind, "param": param, "code": reason.lower()}


def native_error(
    error: ModelryError, code: int, status: int, message: str, reason: str, request_id: str
) -> dict[str, Any]:
    """Return our own `error`, with every field that was refused and what a program may want to know."""
    details: dict[str, Any] = {}
    if isinstance(error, Invalid) and error.violations:
        details["field_violations"] = [asdict(violation) for violation in error.violations]
    if error.metadata and status != 500:
        details["metadata"] = dict(error.metadata)
    return {
        "code": status,
        "status": code_pb2.Code.Name(code),
        "reason": reason,
        "message": message,
        "details": details,
        "request_id": request_id,
    }
