"""An engine's refusal as a client may read it: plain sentences, the field's name as it was sent, a word as the code.

An engine dumps its own checks, and advises flags and variables that only its operator has; neither is a client's.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import msgspec

FAILED = "The engine failed on this request. Give the request id to your administrator."
LONGEST = 400
_DATA = b"data: "
_ERROR_EVENT = b'data: {"error"'
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

_DUMP = re.compile(r"^\d+ validation errors?:?\s")
_DUMPED = re.compile(r"'msg': (?P<quote>['\"])(?P<words>.*?)(?P=quote)(?:, '|\})", re.DOTALL)
_NOISE = re.compile(r"\[\d\d:\d\d:\d\d\] \S+:\d+: |^(?:Value|Assertion) error, | \(parameter=.*\)$", re.DOTALL)
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_OPERATORS = re.compile(r"(?<![\w-])--[a-z]|\bVLLM_|vLLM|environment variable|skip_tokenizer_init")
_NEEDS = re.compile(r"(.+?) (?:requires?|is|are|needs?) ")
_WORD = re.compile(r"[a-z][a-z_]+")
_OUR_WORDS = {"max_model_len": "the context length", "xgrammar": "this deployment"}
_NO_FIELDS = ("", "body", "input_tokens", "input_text")
"""What an engine names as a field that is none of the request's."""


def refusal(status: int, payload: bytes) -> dict[str, Any]:
    """Return an engine's refusal in OpenAI's envelope, with its code for a prompt that is too long."""
    error = _error_of(payload)
    said = str(error.get("message") or "")
    code, param = error.get("code"), _field(error.get("param"))
    if "maximum context length" in said or "max_model_len" in said:
        code = "context_length_exceeded"
    kind, message = "invalid_request_error", _plain(said, param)
    if status >= 500:
        kind, message = "server_error", FAILED
    word = code if isinstance(code, str) and _WORD.fullmatch(code) else None
    return {"error": {"message": message, "type": kind, "param": param, "code": word}}


def refused_stream(event: bytes) -> tuple[int, bytes] | None:
    """Return status and error of an event that tells of one; None: it tells of none."""
    if not event.startswith(_ERROR_EVENT):
        return None
    code = _error_of(event[len(_DATA) :]).get("code")
    return code if isinstance(code, int) else 500, event[len(_DATA) :]


def refusal_event(event: bytes) -> bytes:
    """Return the event of a stream that tells of an error as a client may read it; empty: it tells of none."""
    refused = refused_stream(event)
    return _DATA + _encode(refusal(*refused)) + b"\n\n" if refused is not None else b""


def _error_of(payload: bytes) -> dict[str, Any]:
    with suppress(msgspec.DecodeError, UnicodeDecodeError, AttributeError):
        answer = _decode(payload)
        error = answer.get("error", answer)
        if isinstance(error, dict):
            return error
    return {}


def _field(param: Any) -> str | None:
    name = param.removeprefix("body.") if isinstance(param, str) else ""
    return None if name in _NO_FIELDS else name


def _plain(said: str, param: str | None) -> str:
    """Return what is for the client in an engine's words; where nothing is, that it is not supported."""
    about = f"The field {param}" if param else "The request"
    if _DUMP.match(said):
        first = _DUMPED.search(said)
        words = _NOISE.sub("", first["words"]) if first else ""
        said = f"{about} is not valid: {words}." if words else f"{about} is not valid."
    for theirs, ours in _OUR_WORDS.items():
        said = said.replace(theirs, ours)
    sentences = _SENTENCE.split(" ".join(_NOISE.sub("", said).split()))
    kept = " ".join(one for one in sentences if not _OPERATORS.search(one))
    if not kept and (needs := _NEEDS.match(said)) and not _OPERATORS.search(needs[1]):
        kept = f"This deployment does not support {needs[1]}."
    if not kept:
        kept = f"{about} asks for what this deployment does not support." if said else "The engine refused the request."
    return kept if len(kept) <= LONGEST else f"{kept[:LONGEST]}…"
