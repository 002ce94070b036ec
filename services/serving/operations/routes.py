"""The routes that gateways should know, for the comparison of the bucket with the database."""

from __future__ import annotations

from typing import Any

from services.serving.operations.context import Desk, record_of


async def all_routes(desk: Desk) -> dict[str, tuple[int, dict[str, Any] | None]]:
    """Deployment id -> (version, record)."""
    async with desk.reading() as uow:
        every = await uow.deployments.select()
    found: dict[str, tuple[int, dict[str, Any] | None]] = {}
    for deployment in every:
        record = record_of(desk, deployment)
        found[deployment.id] = (record.version, dict(record.value or {}))
    return found
