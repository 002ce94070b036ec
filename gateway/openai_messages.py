"""Bodies of inference calls: what is read of a question, of a stream's events and of an engine's refusal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from services.chassis.errors import Invalid

BROKEN = (
    b'data: {"error":{"message":"The stream broke: the replica ended. Ask again.","type":"server_error",'
    b'"param":null,"code":"stream_broken"}}\n\n'
)
"""The event that ends a stream whose replica went away."""
_decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode


class _Usage(msgspec.Struct):
    """The one field of an answer that is read; the decoder skips the rest."""

    usage: dict[str, Any] | None = None


_decode_usage = msgspec.json.Decoder(_Usage).decode


def parse(raw: bytes) -> dict[str, Any]:
    """Return the JSON object in a body. Raises: Invalid."""
    try:
        body = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"The body is not valid JSON: {error}.", field="body", reason="INVALID_JSON") from error
    except RecursionError as error:
        raise Invalid("The body is nested too deeply.", field="body", reason="INVALID_JSON") from error
    if not isinstance(body, dict):
        raise Invalid("The body must be a JSON object.", field="body", reason="INVALID_JSON")
    return body


def prepare_stream(body: dict[str, Any]) -> bool:
    """Ask for usage in the stream. Returns whether the client asked for it itself. Raises: Invalid."""
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise Invalid("The field stream_options must be an object.", field="stream_options")
    if options and options.get("include_usage"):
        return True
    body["stream_options"] = {**(options or {}), "include_usage": True}
    return False


async def split_events(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield whole server-sent events, each with its blank line; what is left at the end comes as it is."""
    rest = b""
    async for chunk in chunks:
        rest += chunk
        while (end := rest.find(b"\n\n")) >= 0:
            yield rest[: end + 2]
            rest = rest[end + 2 :]
    if rest:
        yield rest


def is_usage_chunk(event: bytes) -> bool:
    """Return whether an event holds the usage alone."""
    return b'"choices":[]' in event or b'"choices": []' in event


def read_usage(payload: bytes) -> Mapping[str, Any] | None:
    """Return the token counts of an answer or of an event's data, if it has them."""
    try:
        return _decode_usage(payload).usage
    except msgspec.DecodeError:
        return None


def refusal(status: int, payload: bytes) -> dict[str, Any]:
    """Return an engine's refusal in OpenAI's envelope, with its code for a prompt that is too long."""
    error: Any = {}
    with suppress(msgspec.DecodeError, AttributeError):
        answer = _decode(payload)
        error = answer.get("error", answer)
    if not isinstance(error, dict):
        error = {}
    message = str(error.get("message") or "The engine refused the request.")
    too_long = "maximum context length" in message or "max_model_len" in message
    code = "context_length_exceeded" if too_long else error.get("code")
    kind = "invalid_request_error" if status < 500 else "server_error"
    if status >= 500:
        message = "The engine failed on this request. Give the request id to your administrator."
    return {
        "error": {"message": message, "type": kind, "param": error.get("param"), "code": str(code) if code else None}
    }
