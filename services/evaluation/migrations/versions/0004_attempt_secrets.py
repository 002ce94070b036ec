"""Attempts have a secret; those under way go on without."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add it."""
    op.add_column("job_attempts", sa.Column("secret", sa.Text(), nullable=False, server_default=""))
