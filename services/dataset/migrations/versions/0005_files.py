"""Where the rows lie is one value."""

from typing import Any

from services.chassis.data import rewrite_json

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Put bucket, prefix and manifest together."""
    rewrite_json("dataset_versions", "output", _gathered)


def _gathered(output: dict[str, Any]) -> dict[str, Any]:
    files = {name: output.pop(name) for name in ("bucket", "prefix", "manifest_json")}
    return {**output, "files": {**files, "credential": ""}}
