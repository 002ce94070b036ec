"""Files to delete are noted as in every service, with what was waiting."""

import sqlalchemy as sa
from alembic import op

from services.chassis.data import create_garbage_table

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table, and carry over what waits."""
    found = op.get_bind().execute(sa.text("SELECT bucket, prefix FROM garbage")).mappings()
    waiting = [{**row, "project": "", "credential": ""} for row in found]
    op.drop_table("garbage")
    create_garbage_table(waiting)
