"""Files to delete are noted as in every service, with what was waiting in `trash`."""

import sqlalchemy as sa
from alembic import op

from services.chassis.data import create_garbage_table

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table, and carry over what waits."""
    found = op.get_bind().execute(sa.text("SELECT bucket, prefix, project, credential FROM trash")).mappings()
    create_garbage_table([dict(row) for row in found])
    op.drop_index("ix_trash_project_create_time_id", "trash")
    op.drop_table("trash")
