"""Files to delete are noted as in every service, with what was waiting in `trash`."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from services.chassis.garbage import create_garbage_table

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table, and carry over what waits."""
    garbage = create_garbage_table()
    found = op.get_bind().execute(sa.text("SELECT bucket, prefix, project, credential FROM trash")).mappings()
    rows = [{"next_time": datetime(2000, 1, 1, tzinfo=UTC), "attempts": 0, "last_error": "", **row} for row in found]
    op.bulk_insert(garbage, rows)
    op.drop_index("ix_trash_project_create_time_id", "trash")
    op.drop_table("trash")
