"""A failure says by name whose doing it is, as in every service."""

from typing import Any

from services.chassis.data import rewrite_json

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Rewrite the failures."""
    rewrite_json("model_versions", "failure", _with_kind)


def _with_kind(failure: dict[str, Any]) -> dict[str, Any]:
    user = failure.pop("user")
    return {**failure, "kind": "USER" if user else "SYSTEM"}
