"""The bytes of one row to a Python object, and, when that fails, a clear reason.

msgspec does the work. It says neither where a NaN stands nor that a key occurs twice, so a row that it refuses, or
whose keys do not add up, is read once more by the slower standard parser that can.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from services.dataset.reading.problems import RowProblem, kind_of, quote

_DECODER = msgspec.json.Decoder()
_KEY = re.compile(rb'"\s*:')
_SURROGATE = re.compile("[\ud800-\udfff]")


class _NotANumber:
    """The stand-in for NaN, Infinity or -Infinity, which JSON does not have."""

    def __init__(self, literal: str) -> None:
        self.literal = literal


def decode_row(raw: bytes) -> dict[str, Any]:
    """Return the row as an object.

    Raises: RowProblem: INVALID_JSON (with the byte), NOT_A_NUMBER, DUPLICATE_KEY, LONE_SURROGATE, TOO_DEEP, NOT_OBJECT.
    """
    try:
        value = _DECODER.decode(raw)
    except RecursionError as error:
        raise RowProblem("", "TOO_DEEP", "The row is nested too deeply.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _diagnose(raw, str(error)) from error
    if not isinstance(value, dict):
        raise RowProblem("", "NOT_OBJECT", f"Expected an object with named columns, got {kind_of(value)}.")
    keys = _count_keys(value)
    if raw.count(b":") != keys and len(_KEY.findall(raw)) != keys:
        _refuse_duplicates(raw)
    return value


def _count_keys(value: Any) -> int:
    """Return the keys of all objects inside a decoded value."""
    total = 0
    stack = [value]
    while stack:
        item = stack.pop()
        if item.__class__ is dict:
            total += len(item)
            stack.extend(part for part in item.values() if part.__class__ is dict or part.__class__ is list)
        else:
            stack.extend(part for part in item if part.__class__ is dict or part.__class__ is list)
    return total


def _refuse_duplicates(raw: bytes) -> None:
    match: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: set[str] = set()
        for key, _ in items:
            if key in seen:
                match.append(key)
            seen.add(key)
        return dict(items)

    json.loads(raw, object_pairs_hook=pairs)
    if match:
        raise RowProblem(
            match[0], "DUPLICATE_KEY", f"The key {quote(match[0])} occurs twice in one object: its value is unclear."
        )


def _diagnose(raw: bytes, words: str) -> RowProblem:
    """Say why msgspec refused the row."""
    text = raw.decode("utf-8", "replace")
    try:
        value = json.loads(text, parse_constant=_NotANumber)
    except json.JSONDecodeError as error:
        position = len(text[: error.pos].encode("utf-8", "replace"))
        return RowProblem("", "INVALID_JSON", f"{_plain(error)} at column {error.pos + 1}.", position=position)
    except RecursionError:
        return RowProblem("", "TOO_DEEP", "The row is nested too deeply.")
    for path, item in _walk(value, ""):
        if isinstance(item, _NotANumber):
            return RowProblem(
                path, "NOT_A_NUMBER", f'"{path}" is {item.literal}, which is not JSON; use null or a string.'
            )
        if isinstance(item, float) and math.isinf(item):
            return RowProblem(path, "NUMBER_OUT_OF_RANGE", f'"{path}" is a number too large to be read.')
        if isinstance(item, str) and (match := _SURROGATE.search(item)):
            return RowProblem(
                path,
                "LONE_SURROGATE",
                f'"{path}" has the unpaired surrogate \\u{ord(match.group()):04x} at character {match.start() + 1}: '
                "half of a character, which cannot be written as UTF-8.",
            )
    return RowProblem("", "INVALID_JSON", words)


def _plain(error: json.JSONDecodeError) -> str:
    words = (error.msg[0].lower() + error.msg[1:]).removesuffix(" starting at")
    if error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated"):
        return f"The row is cut short: {words}"
    return f"Invalid JSON: {words}, found {quote(error.doc[error.pos : error.pos + 20])}"


def _walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield each leaf and key of a value with its path."""
    if isinstance(value, dict):
        for key, part in value.items():
            inner = f"{path}.{key}" if path else key
            yield inner, key
            yield from _walk(part, inner)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _walk(part, f"{path}[{index}]")
    else:
        yield path, value
