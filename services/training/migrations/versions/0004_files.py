"""Where files lie is one value, for data sets and checkpoints."""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

from services.chassis.data import rewrite_json

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Put bucket, prefix and manifest together."""
    rewrite_json("jobs", "datasets", lambda uses: [_gathered(use) for use in uses])
    rewrite_json("jobs", "validation_dataset", _gathered)
    op.add_column("checkpoints", sa.Column("files", sa.Text(), nullable=False, server_default=""))
    connection = op.get_bind()
    found = "SELECT checkpoints.*, jobs.output FROM checkpoints LEFT JOIN jobs ON jobs.id = checkpoints.job_id"
    for row in connection.execute(sa.text(found)).all():
        credential = json.loads(row.output)["credential"] if row.output else ""
        files = _files(row.bucket, row.prefix, row.manifest, credential)
        connection.execute(
            sa.text("UPDATE checkpoints SET files = :files WHERE id = :id"), {"files": json.dumps(files), "id": row.id}
        )
    for name in ("bucket", "prefix", "manifest"):
        op.drop_column("checkpoints", name)


def _gathered(use: dict[str, Any]) -> dict[str, Any]:
    places = [use.pop(name) for name in ("bucket", "prefix", "manifest")]
    return {**use, "files": _files(*places) if any(places) else None}


def _files(bucket: str, prefix: str, manifest: str, credential: str = "") -> dict[str, str]:
    return {"bucket": bucket, "prefix": prefix, "manifest_json": manifest, "credential": credential}
