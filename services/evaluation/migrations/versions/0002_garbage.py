"""Files to delete are noted as in every service."""

from services.chassis.data import create_garbage_table

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table."""
    create_garbage_table()
