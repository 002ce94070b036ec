"""Files to delete are noted as in every service."""

from services.chassis.data import create_garbage_table

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table."""
    create_garbage_table()
