"""Bodies of inference calls: what is read of a question, and a stream's events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from services.chassis.errors import Invalid

BROKEN = (
    b'data: {"error":{"message":"The stream broke: the replica ended. Ask again.","type":"server_error",'
    b'"param":null,"code":"stream_broken"}}\n\n'
)
"""The event that ends a stream whose replica went away."""
MOST_INTERVAL = 32
"""How many tokens an event may hold: what comes after the last event that arrived is counted by nobody."""
_decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode


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


@dataclass(frozen=True)
class Question:
    """What the gateway acts on in a body; every other field passes untouched."""

    model: str
    stream: bool
    choices: int
    prompts: int
    wants_usage: bool
    wants_totals: bool

    @property
    def sequences(self) -> int:
        """How many the engine works on for it."""
        return self.choices * self.prompts

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Question:
        """Read the fields strictly: what the engine would take for true or for a number is one here, or refused.

        Raises: Invalid.
        """
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise Invalid("You must provide a model parameter.", field="model")
        stream = _flag(body, "stream", "stream")
        options = body.get("stream_options")
        if not isinstance(options, dict | None):
            raise Invalid("The field stream_options must be an object.", field="stream_options")
        wanted, totals = (
            _flag(options or {}, name, f"stream_options.{name}") for name in ("include_usage", "continuous_usage_stats")
        )
        _number(body, "stream_interval", MOST_INTERVAL)
        return cls(model, stream, _number(body, "n", None), _prompts(body), wanted, wanted and totals)


def _prompts(body: Mapping[str, Any]) -> int:
    prompt = body.get("prompt")
    return len(prompt) if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list) else 1


def _flag(body: Mapping[str, Any], name: str, field: str) -> bool:
    value = body.get(name)
    if not isinstance(value, bool | None):
        raise Invalid(f"The field {field} must be true or false.", field=field)
    return bool(value)


def _number(body: Mapping[str, Any], name: str, most: int | None) -> int:
    value = body.get(name)
    if value is None:
        return 1
    if type(value) is not int or value < 1 or (most is not None and value > most):
        words = "of at least 1" if most is None else f"from 1 to {most}"
        raise Invalid(f"The field {name} must be a whole number {words}.", field=name)
    return value


def ask_for_usage(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a stream that counts its tokens from event to event, and at its end."""
    asked = {"include_usage": True, "continuous_usage_stats": True}
    return {**body, "stream_options": {**(body.get("stream_options") or {}), **asked}}


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
