"""A repository's statements, made once for each table: to build one costs more than to execute it."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    Delete,
    Insert,
    Select,
    Table,
    Update,
    bindparam,
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
        by_id: by `id`, in any project.
        find: by `project` and `id`.
        find_named: by `project` and `name`; none where there are no names.
        add: a whole row.
        save: a whole row, instead of the one with `row_id` and `row_version`.
        delete: by `row_id` and `row_version`.
    """

    names: tuple[str, ...]
    by_id: Select[Any]
    find: Select[Any]
    find_named: Select[Any] | None
    add: Insert
    save: Update
    delete: Delete


@cache
def statements_of(table: Table, locks_rows: bool) -> Statements:
    """Return the statements of a table; with `locks_rows`, what is selected is locked until the transaction ends."""
    columns = table.c
    rows = select(table).with_for_update() if locks_rows else select(table)
    by_id = rows.where(columns.id == bindparam("id"))
    in_project = columns.project == bindparam("project")
    named = None
    if "name" in columns:
        # The index of names is a partial one: only this very condition makes it usable.
        named = rows.where(in_project, columns.name == bindparam("name"), columns.name != literal_column("''"))
    same = (columns.id == bindparam("row_id"), columns.version == bindparam("row_version"))
    return Statements(
        names=tuple(columns.keys()),
        by_id=by_id,
        find=by_id.where(in_project),
        find_named=named,
        add=insert(table),
        save=update(table).where(*same),
        delete=delete(table).where(*same),
    )


@cache
def insert_new(table: Table, dialect: str) -> Any:
    """Insert a row unless there is one with its key, and return its `create_time` if it was inserted.

    Asked for by RETURNING: psycopg's row count of such an insert is not to be relied on.
    """
    statement = (postgresql if dialect == "postgresql" else sqlite).insert(table)
    return statement.on_conflict_do_nothing().returning(table.c.create_time)
