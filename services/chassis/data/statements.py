"""A repository's statements, made once for each table: to build one costs more than to execute it."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    Delete,
    Insert,
    Select,
    Table,
    Text,
    Update,
    bindparam,
    case,
    delete,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite


@dataclass(frozen=True)
class Statements:
    """What is executed again and again, with bound parameters.

    Attributes:
        names: the columns, in the order of a row.
        find: by `project` and `ref`, which is an id, or a name where there are names; an id wins.
        by_id: by `id`.
        add: a whole row.
        save: a whole row, instead of the one with `row_id` and `row_version`.
        delete: by `row_id` and `row_version`.
    """

    names: tuple[str, ...]
    find: Select[Any]
    by_id: Select[Any]
    add: Insert
    save: Update
    delete: Delete


@cache
def statements_of(table: Table, locks_rows: bool) -> Statements:
    """The statements of a table; with `locks_rows`, what is selected cannot change until the transaction ends."""
    columns = table.c
    same = (columns.id == bindparam("row_id"), columns.version == bindparam("row_version"))
    find = _find(table)
    by_id = select(table).where(columns.id == bindparam("id"))
    return Statements(
        names=tuple(columns.keys()),
        find=find.with_for_update() if locks_rows else find,
        by_id=by_id.with_for_update() if locks_rows else by_id,
        add=insert(table),
        save=update(table).where(*same),
        delete=delete(table).where(*same),
    )


def _find(table: Table) -> Select[Any]:
    """By id or name, so that each is looked up in its own index: an OR of both reads all rows of the project."""
    columns, project = table.c, bindparam("project", type_=Text())
    ref = bindparam("ref", type_=Text())
    if "name" not in columns:
        return select(table).where(columns.id == ref, columns.project == project)
    same, named = table.alias("same").c, table.alias("named").c
    found = select(same.id).where(same.id == ref, same.project == project)
    # The index of names is a partial one: only this very condition makes it usable.
    by_name = select(named.id).where(named.project == project, named.name == ref, named.name != literal_column("''"))
    query = select(table).where(columns.id.in_(found.union_all(by_name)))
    return query.order_by(case((columns.id == ref, 0), else_=1)).limit(1)


@cache
def insert_new(table: Table, dialect: str) -> Any:
    """Insert a row unless there is one with its key, and return its `create_time` if it was inserted.

    Asked for by RETURNING: psycopg's row count of such an insert is not to be relied on.
    """
    made = (postgresql if dialect == "postgresql" else sqlite).insert(table)
    return made.on_conflict_do_nothing().returning(table.c.create_time)
