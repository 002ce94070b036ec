"""Tables derived from frozen dataclasses, so that a service writes an entity once.

`table_of` gives each field a column by its annotation: `str int float bool bytes datetime` and enums are columns of
their own kind, `X | None` is nullable, `Decimal` is exact text, and everything else (tuples, mappings, nested
dataclasses) is JSON, which comes back as the type that the annotation says.
"""

import enum
import types
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter
from sqlalchemy import BigInteger, Boolean, Column, DateTime, Float, Index, LargeBinary, MetaData, Table, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
"""How constraints are called, so that a later migration can name them on every database."""


class UtcTime(TypeDecorator[datetime]):
    """An aware datetime. SQLite keeps no zone: what it gives back is UTC, because only UTC is stored."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return UTC for the database; a naive time is a mistake of the caller."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class EnumName(TypeDecorator[enum.Enum]):
    """An enum's member, stored as its name: readable, and indifferent to the numbers of a proto."""

    impl = Text
    cache_ok = True

    def __init__(self, enum_type: type[enum.Enum]) -> None:
        super().__init__()
        self.enum_type = enum_type

    def process_bind_param(self, value: enum.Enum | str | None, dialect: Dialect) -> str | None:
        return value.name if isinstance(value, enum.Enum) else value

    def process_result_value(self, value: str | None, dialect: Dialect) -> enum.Enum | None:
        return None if value is None else self.enum_type[value]


class DecimalText(TypeDecorator[Decimal]):
    """An exact decimal number as text: SQLite has only binary floats."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:
        return None if value is None else format(value, "f")

    def process_result_value(self, value: str | None, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value)


class JsonOf(TypeDecorator[Any]):
    """Any value that its annotation describes, as JSON text: dataclasses and tuples come back as such."""

    impl = Text
    cache_ok = True

    def __init__(self, annotation: Any) -> None:
        super().__init__()
        self.annotation = annotation

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else _adapter(self.annotation).dump_json(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Return the value, with the types of the annotation."""
        return None if value is None else _adapter(self.annotation).validate_json(value)


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)


_PLAIN: dict[type, type[TypeEngine[Any]]] = {
    str: Text,
    bool: Boolean,
    int: BigInteger,
    float: Float,
    bytes: LargeBinary,
    datetime: UtcTime,
    Decimal: DecimalText,
}


def column_type(annotation: Any) -> tuple[TypeEngine[Any], bool]:
    """Return the column type of a field's annotation, and whether it may be NULL."""
    annotation = getattr(annotation, "__supertype__", annotation)  # a NewType is stored as what it names
    inner, nullable = annotation, False
    if get_origin(annotation) in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        nullable = len(members) < len(get_args(annotation))
        inner = members[0] if len(members) == 1 else Union[tuple(members)]  # noqa: UP007
    if inner in _PLAIN:
        return _PLAIN[inner](), nullable
    if isinstance(inner, type) and issubclass(inner, enum.Enum):
        return EnumName(inner), nullable
    return JsonOf(inner), nullable


def table_of(
    entity: type,
    metadata: MetaData,
    name: str,
    *,
    key: Sequence[str] = ("id",),
    unique: Sequence[Sequence[str]] | None = None,
    indexes: Sequence[Sequence[str]] = (),
) -> Table:
    """Return the table of a dataclass.

    Args:
        entity: the dataclass; every field becomes a column.
        metadata: where the table belongs (`chassis_metadata()`).
        key: the primary key's fields.
        unique: sets of fields that may exist once. Left out: (project, name), if the entity has both; a name that is
            empty does not count.
        indexes: further indexes. Entities with `project` and `create_time` get the one that lists need by themselves.
    """
    if not is_dataclass(entity):
        raise TypeError(f"{entity!r} is not a dataclass")
    hints = get_type_hints(entity)
    columns: list[Column[Any]] = []
    for field in fields(entity):
        kind, nullable = column_type(hints[field.name])
        columns.append(Column(field.name, kind, primary_key=field.name in key, nullable=nullable))
    table = Table(name, metadata, *columns)
    names = set(table.c.keys())
    if unique is None:
        unique = [("project", "name")] if {"project", "name"} <= names else []
    for group in unique:
        named = table.c.name != "" if "name" in group else None
        title = f"uq_{name}_{'_'.join(group)}"
        Index(title, *(table.c[f] for f in group), unique=True, sqlite_where=named, postgresql_where=named)
    if {"project", "create_time"} <= names:
        indexes = [*indexes, ("project", "create_time", "id")]
    for group in indexes:
        Index(f"ix_{name}_{'_'.join(group)}", *(table.c[f] for f in group))
    return table
