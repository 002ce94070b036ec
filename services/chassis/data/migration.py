"""Migrations of a service's database, run by the service itself when it starts.

A service has `migrations/versions/0001_initial.py`, `0002_….py` and nothing else there. The number is the revision:

    from alembic import op
    import sqlalchemy as sa
    from services.chassis.data import create_chassis_tables

    revision = "0001"
    down_revision = None

    def upgrade() -> None:
        create_chassis_tables()
        op.create_table("notes", sa.Column("id", sa.Text(), nullable=False), …)

`python -m services.chassis.data.migration services.training.store` prints the first one from the module's `metadata`; a
test of the service asserts that `differences` finds none. Older migrations are never edited.
"""

import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    inspect,
    select,
    text,
    update,
)

from services.chassis.data.tables import chassis
from services.chassis.settings import refuse_start


def revisions(migrations: Path) -> list[str]:
    """Return the revisions that this code knows, oldest first: the numbers of the files in `migrations/versions`."""
    return sorted(path.name.split("_")[0] for path in (migrations / "versions").glob("[0-9]*.py"))


def current_revision(connection: Connection) -> str:
    """Return the revision of a database, or nothing if it is new."""
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or "")


def pending(connection: Connection, service: str, migrations: Path) -> list[str]:
    """Return the revisions still to run. A database that is newer than the code stops the start."""
    known = revisions(migrations)
    current = current_revision(connection)
    if current and current not in known:
        newest = known[-1] if known else "none"
        refuse_start(
            f"The database of {service} has schema {current}, newer than this version of Modelry knows ({newest}). "
            "Start the version that made it, or restore the copy beside it."
        )
    return [revision for revision in known if revision > current]


def upgrade(connection: Connection, migrations: Path) -> None:
    """Run what is pending, in the connection's transaction.

    Alembic is imported here: a start with nothing to do does not pay for it.
    """
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(migrations))

    def steps(revision: Any, context: Any) -> Any:
        return script._upgrade_revs("head", revision)

    with EnvironmentContext(Config(), script, fn=steps, destination_rev="head") as environment:
        environment.configure(connection=connection, transactional_ddl=True)
        with environment.begin_transaction():
            environment.run_migrations()


def create_chassis_tables() -> None:
    """Make outbox, inbox, dead_letters and requests. For a service's first migration."""
    from alembic import op

    chassis.create_all(op.get_bind(), checkfirst=False)


def rename_column(table: str, old: str, new: str) -> None:
    """Give a column its new name. A database that was made later, by `create_chassis_tables`, has it already."""
    from alembic import op

    if old in {column["name"] for column in inspect(op.get_bind()).get_columns(table)}:
        op.execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")


def create_garbage_table(waiting: Sequence[Mapping[str, Any]] = ()) -> None:
    """Make the table of files to delete, with what waits (bucket, prefix, project, credential), as it was at first."""
    from alembic import op

    words = [Column(name, Text, nullable=False) for name in ("bucket", "prefix", "project", "credential")]
    table = op.create_table(
        "garbage",
        Column("next_time", DateTime(timezone=True), nullable=False),
        *words,
        Column("attempts", BigInteger, nullable=False),
        Column("last_error", Text, nullable=False),
        PrimaryKeyConstraint(*(word.name for word in words), name="pk_garbage"),
    )
    op.create_index("ix_garbage_next_time", "garbage", ["next_time"])
    at_once = {"next_time": datetime(2000, 1, 1, tzinfo=UTC), "attempts": 0, "last_error": ""}
    op.bulk_insert(table, [{**at_once, **row} for row in waiting])


def rewrite_json(table: str, column: str, change: Callable[[Any], Any], key: str = "id") -> None:
    """Put what `change` makes of the JSON of a text column in its place, in every row that has one."""
    from alembic import op

    connection = op.get_bind()
    ids: Column[Any] = Column(key, Text)
    values: Column[Any] = Column(column, Text)
    rows = Table(table, MetaData(), ids, values)
    for ident, old in connection.execute(select(rows).where(values.is_not(None))).all():
        new = json.dumps(change(json.loads(old)), separators=(",", ":"))
        connection.execute(update(rows).where(ids == ident).values({column: new}))


def differences(connection: Connection, metadata: MetaData) -> list[str]:
    """Return what the tables of the code and those of the database do not have in common, in words; empty is right."""
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return [str(difference) for difference in compare_metadata(context, metadata)]


def draft(metadata: MetaData) -> str:
    """Return the text of a first migration that makes the tables of a MetaData, the chassis' ones by their helper."""
    from alembic.autogenerate import render_python_code
    from alembic.operations import ops

    steps: list[ops.MigrateOperation] = []
    for table in metadata.sorted_tables:
        if table.name not in chassis.tables:
            steps.append(ops.CreateTableOp.from_table(table))
            indexes = sorted(table.indexes, key=lambda index: str(index.name))
            steps += [ops.CreateIndexOp.from_index(index) for index in indexes]
    body = render_python_code(ops.UpgradeOps(steps), render_item=_plain_type)
    head = '"""The first tables."""\n\nimport sqlalchemy as sa\nfrom alembic import op\n\n'
    head += "from services.chassis.data import create_chassis_tables\n\n"
    head += 'revision = "0001"\ndown_revision = None\n\n\ndef upgrade() -> None:\n    """Make the tables."""\n'
    return head + f"    create_chassis_tables()\n    {body}\n"


def _plain_type(kind: str, item: Any, context: Any) -> str | Literal[False]:
    """Return our own column types as the plain ones below them: a migration must not change when our code does."""
    if kind != "type" or not item.__class__.__module__.startswith("services."):
        return False
    return f"sa.{item.impl!r}"


if __name__ == "__main__":
    print(draft(importlib.import_module(sys.argv[1]).metadata), end="")
