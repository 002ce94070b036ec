"""Columns have the names of the code."""

from services.chassis.data import rename_column

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Rename them."""
    rename_column("outbox", "lane", "ordering_key")
    rename_column("evaluations", "barren_attempts", "attempts_without_checkpoint")
