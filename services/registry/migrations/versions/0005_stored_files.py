"""Where files lie is one value in every service."""

from typing import Any

from services.chassis.data import rewrite_json

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Rewrite the files of versions."""
    rewrite_json("model_versions", "files", _with_stored)


def _with_stored(files: dict[str, Any]) -> dict[str, Any]:
    stored = {"bucket": files["bucket"], "prefix": files["prefix"], "manifest_json": files["manifest"]}
    return {"stored": stored, "digest": files["digest"], "size_bytes": files["size_bytes"]}
