"""Where the files of a version lie is one value, as in every service."""

from typing import Any

from services.chassis.data import rewrite_json

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Rewrite the files of models and of adapters."""
    rewrite_json("deployments", "facts", lambda facts: _with_values(facts, "base", "own"))
    rewrite_json("deployments", "adapters", lambda adapters: [_with_values(one, "files") for one in adapters])


def _with_values(owner: dict[str, Any], *fields: str) -> dict[str, Any]:
    return {**owner, **{field: _files(owner[field]) for field in fields if owner[field]}}


def _files(old: dict[str, Any]) -> dict[str, Any]:
    stored = {"bucket": old["bucket"], "prefix": old["prefix"], "manifest_json": old["manifest"]}
    return {"version_id": old["version_id"], "stored": stored, "digest": old["digest"]}
