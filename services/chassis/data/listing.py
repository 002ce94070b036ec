"""Lists: pages and orders, the same for every resource (filters are in filters.py).

A page token holds the sort values of the page's last row, not an offset: rows that come or go between two pages
neither repeat nor hide others.
"""

import base64
import enum
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, Generic, TypeVar

from sqlalchemy import (
    Column,
    ColumnElement,
    Text,
    and_,
    case,
    false,
    or_,
)

from services.chassis.data.columns import EnumName, UtcTime
from services.chassis.data.filters import Fields, parse_time
from services.chassis.errors import Invalid

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000

E = TypeVar("E")


@dataclass(frozen=True)
class PageQuery:
    """What a caller asks of a list, as it stands in the request."""

    page_size: int = 0
    page_token: str = ""
    filter: str = ""
    order_by: str = ""

    @classmethod
    def of(cls, request: Any) -> "PageQuery":
        """Return the query of a List request; not every list has a filter and an order."""
        filter_text, order_by = getattr(request, "filter", ""), getattr(request, "order_by", "")
        return cls(request.page_size, request.page_token, filter_text, order_by)

    @property
    def limit(self) -> int:
        """How many items a page has: 50 if nothing was asked, at most 1,000.

        Raises: Invalid: it is negative or too large.
        """
        if not 0 <= self.page_size <= MAX_PAGE_SIZE:
            raise Invalid(f"page_size is {self.page_size}; it must be 1 to {MAX_PAGE_SIZE}.", field="page_size")
        return self.page_size or DEFAULT_PAGE_SIZE

    @property
    def position(self) -> int:
        """Where a list of numbered things goes on, 0 at its start. Raises: Invalid: the token is no such number."""
        if self.page_token and not (self.page_token.isdecimal() and len(self.page_token) < 19):
            raise Invalid("page_token is not one that this list gave out.", field="page_token")
        return int(self.page_token or 0)


@dataclass(frozen=True)
class Page(Generic[E]):
    """Some items, and the token of the next page; an empty token means that this is the last."""

    items: tuple[E, ...]
    next_page_token: str = ""


@dataclass(frozen=True)
class _Key:
    """One step of an order: an expression, its direction, and how to read its value from an entity."""

    expression: ColumnElement[Any]
    descending: bool
    read: Callable[[Any], Any]

    def after(self, value: Any) -> ColumnElement[bool]:
        if value is None:
            return false()
        after: ColumnElement[bool] = self.expression < value if self.descending else self.expression > value
        return after

    def same(self, value: Any) -> ColumnElement[bool]:
        return self.expression.is_(None) if value is None else self.expression == value


class Order:
    """A total order of a list's rows: the wished one (or newest first), then the id."""

    def __init__(self, text: str, fields: Fields, id_column: Column[Any], newest: Column[Any] | None) -> None:
        column, descending = _parse_order(text, fields) if text.strip() else (newest, True)
        self.keys: list[_Key] = []
        if column is not None and column is not id_column:
            if column.nullable:  # what is not set yet comes last either way
                self.keys.append(_Key(case((column.is_(None), 1), else_=0), False, _null_rank(column.key)))
            self.keys.append(_Key(column, descending, attrgetter(column.key)))
        self.keys.append(_Key(id_column, descending, attrgetter(id_column.key)))

    def clauses(self) -> list[ColumnElement[Any]]:
        """Return the clauses of ORDER BY."""
        return [key.expression.desc() if key.descending else key.expression.asc() for key in self.keys]

    def after(self, values: Sequence[Any]) -> ColumnElement[bool]:
        """Return the rows that come after the one with these values."""
        same: list[ColumnElement[bool]] = []
        cases = []
        for key, value in zip(self.keys, values, strict=True):
            cases.append(and_(*same, key.after(value)))
            same.append(key.same(value))
        return or_(*cases)

    def values(self, entity: Any) -> list[Any]:
        """Return an entity's place in the order."""
        return [key.read(entity) for key in self.keys]


def _null_rank(name: str) -> Callable[[Any], int]:
    return lambda entity: int(getattr(entity, name) is None)


def _parse_order(text: str, fields: Fields) -> tuple[Column[Any], bool]:
    words = text.split()
    direction = words[1].lower() if len(words) == 2 else "asc"
    if len(words) > 2 or direction not in ("asc", "desc") or words[0] not in fields:
        names = ", ".join(sorted(fields)) or "nothing"
        raise Invalid(
            f"order_by {text!r} is not `field` or `field desc`; this list can be ordered by: {names}.",
            field="order_by",
        )
    return fields[words[0]], direction == "desc"


def fingerprint(*parts: object) -> str:
    """Return what a page token is bound to: the filter and the order of the list that it goes on with."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def make_token(bound_to: str, values: Sequence[Any]) -> str:
    """Return a page token for the rows after the one with these sort values."""
    raw = json.dumps([bound_to, [_plain(value) for value in values]], separators=(",", ":"))
    return base64.urlsafe_b64encode(raw.encode()).decode().rstrip("=")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return value.name if isinstance(value, enum.Enum) else value


def read_token(text: str, bound_to: str, order: Order) -> list[Any]:
    """Return the sort values of a page token.

    Raises: Invalid(field="page_token"): it is none, or belongs to a list with another filter or order.
    """
    try:
        bound, values = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        restored = [_restore(key.expression, value) for key, value in zip(order.keys, values, strict=True)]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Invalid("page_token is not one that this list gave out.", field="page_token") from error
    if bound != bound_to:
        raise Invalid(
            "page_token belongs to a list with another filter or order; repeat the request that gave it.",
            field="page_token",
        )
    return restored


def _restore(expression: ColumnElement[Any], value: Any) -> Any:
    kind = expression.type
    wants = str if isinstance(kind, (UtcTime, EnumName, Text)) else (int, float)
    if value is None:
        return None
    if not isinstance(value, wants) or (isinstance(value, int) and abs(value) >= 1 << 63) or "\0" in str(value):
        raise TypeError("the token holds a value of another type")
    str(value).encode()  # no database takes an unpaired surrogate: a ValueError
    if isinstance(kind, UtcTime):
        return parse_time(str(value))
    return kind.enum_type[str(value)] if isinstance(kind, EnumName) else value
