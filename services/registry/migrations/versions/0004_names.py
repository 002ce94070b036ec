"""Columns have the names of the code."""

from services.chassis.data import rename_column

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Rename them."""
    rename_column("outbox", "lane", "ordering_key")
