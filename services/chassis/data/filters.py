"""Filters of lists: `field op value AND field op value`, over the fields that a list names and nothing else."""

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, ColumnElement, Float, Text, func, type_coerce

from services.chassis.data.columns import DecimalText, EnumName, JsonOf, UtcTime
from services.chassis.errors import Invalid

Fields = Mapping[str, Column[Any]]
"""What a list may be filtered or ordered by: the name that callers write, and its column."""

_TERM = re.compile(
    r"""\s*(?P<field>[A-Za-z_][A-Za-z0-9_.]*)\s*(?P<op>!=|<=|>=|=|<|>|:)\s*(?P<value>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s"']\S*)"""
)
_AND = re.compile(r"\s+AND\s+", re.IGNORECASE)


def parse_filter(text: str, fields: Fields) -> list[ColumnElement[bool]]:
    """Return the conditions of a filter: `field op value` joined by AND.

    Values with spaces stand in double or single quotes, where a backslash makes the next character plain. `=` and `!=`
    go with every field, `< <= > >=` with numbers, times and text, `:` (contains, without regard to case) with text and
    lists.

    Raises: Invalid(field="filter"): it cannot be read, or names a field that is not filterable.
    """
    conditions, position, end = [], 0, len(text.rstrip())
    while position < end:
        match = _TERM.match(text, position)
        if match is None:
            raise _bad_filter(f"cannot be read at {text[position : position + 30].strip()!r}", fields)
        conditions.append(_condition(match["field"], match["op"], match["value"], fields))
        position = match.end()
        if position < end:
            joint = _AND.match(text, position)
            if joint is None or joint.end() >= end:
                raise _bad_filter(f"needs AND and another condition at {text[position:].strip()[:30]!r}", fields)
            position = joint.end()
    return conditions


def _bad_filter(what: str, fields: Fields) -> Invalid:
    names = ", ".join(sorted(fields)) or "nothing"
    return Invalid(
        f"filter {what}. It is `field op value` joined by AND; this list can be filtered by: {names}.", field="filter"
    )


def _condition(name: str, op: str, raw: str, fields: Fields) -> ColumnElement[bool]:
    column = fields.get(name)
    if column is None:
        raise _bad_filter(f"names {name!r}, which is not filterable", fields)
    text = _unquoted(raw)
    if "\0" in text:  # JSON's quotes may have hidden it
        raise _bad_filter("has a NUL", fields)
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise _bad_filter("has an unpaired surrogate", fields)
    if op == ":":
        return _contains(name, column, text, fields)
    if isinstance(column.type, JsonOf):
        raise _bad_filter(f"compares {name!r} by {op!r}; it is a list, use `{name}:value`", fields)
    if op not in ("=", "!=") and isinstance(column.type, (EnumName, Boolean, DecimalText)):
        raise _bad_filter(f"compares {name!r} by {op!r}; it knows only = and !=", fields)
    try:
        value = _value(column, text)
    except ValueError as error:
        raise _bad_filter(f"has {text!r} for {name!r}: {error}", fields) from error
    compare: dict[str, Callable[[], ColumnElement[bool]]] = {
        "=": lambda: column == value,
        "!=": lambda: column.is_distinct_from(value),
        "<": lambda: column < value,
        "<=": lambda: column <= value,
        ">": lambda: column > value,
        ">=": lambda: column >= value,
    }
    return compare[op]()


def _unquoted(raw: str) -> str:
    """Return a value without its quotes; double ones are JSON's where they can be."""
    if raw[0] not in "\"'":
        return raw
    if raw[0] == '"':
        with suppress(ValueError):
            return str(json.loads(raw))
    return re.sub(r"\\(.)", r"\1", raw[1:-1], flags=re.DOTALL)


def _contains(name: str, column: Column[Any], text: str, fields: Fields) -> ColumnElement[bool]:
    if isinstance(column.type, JsonOf):
        text = json.dumps(text, ensure_ascii=False)
    elif not isinstance(column.type, Text):
        raise _bad_filter(f"compares {name!r} by ':', which is for text and lists", fields)
    lowered = func.lower(type_coerce(column, Text), type_=Text())
    condition: ColumnElement[bool] = lowered.contains(text.lower(), autoescape=True)
    return condition


def _value(column: Column[Any], text: str) -> Any:
    """Return a filter's value as the column's type. Raises ValueError with words for the caller."""
    kind = column.type
    if isinstance(kind, EnumName):
        members = kind.enum_type.__members__
        if text.upper() not in members:
            raise ValueError(f"it is one of {', '.join(members)}")
        return members[text.upper()]
    if isinstance(kind, UtcTime):
        return parse_time(text)
    if isinstance(kind, Boolean):
        if text.lower() not in ("true", "false"):
            raise ValueError("it is true or false")
        return text.lower() == "true"
    if isinstance(kind, BigInteger):
        if not re.fullmatch(r"-?\d{1,18}", text):
            raise ValueError("it is a whole number")
        return int(text)
    if isinstance(kind, (Float, DecimalText)):
        if not re.fullmatch(r"-?\d+(\.\d+)?([eE][+-]?\d{1,2})?", text):
            raise ValueError("it is a number")
        return float(text) if isinstance(kind, Float) else Decimal(text)
    return text


def parse_time(text: str) -> datetime:
    """Return a time as people write it; without a zone it is UTC. Raises ValueError with words for the caller."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ValueError("it is a time such as 2026-11-24T08:00:00Z") from None
