"""Files to delete are noted as in every service, with what was waiting in `trash`."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table, and carry over what waits."""
    op.create_table(
        "garbage",
        sa.Column("next_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("credential", sa.Text(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("bucket", "prefix", "project", "credential", name=op.f("pk_garbage")),
    )
    op.create_index("ix_garbage_next_time", "garbage", ["next_time"], unique=False)
    found = op.get_bind().execute(sa.text("SELECT bucket, prefix, project, credential FROM trash")).mappings()
    waiting = [dict(row) for row in found]
    rows = [{"next_time": datetime(2000, 1, 1, tzinfo=UTC), "attempts": 0, "last_error": "", **row} for row in waiting]
    garbage = sa.table(
        "garbage",
        sa.column("next_time", sa.DateTime(timezone=True)),
        *(sa.column(name) for name in ("bucket", "prefix", "project", "credential", "attempts", "last_error")),
    )
    op.bulk_insert(garbage, rows)
    op.drop_index("ix_trash_project_create_time_id", "trash")
    op.drop_table("trash")
