"""The routes that gateways should know, for the comparison of the bucket with the database."""

from __future__ import annotations

from typing import Any

from services.serving.operations.context import ServiceContext
from services.serving.operations.deployment_state import record_of


async def all_routes(context: ServiceContext) -> dict[str, tuple[int, dict[str, Any] | None]]:
    """Return the deployment id -> (version, record)."""
    async with context.reading() as uow:
        every = await uow.deployments.select()
    routes: dict[str, tuple[int, dict[str, Any] | None]] = {}
    for deployment in every:
        record = record_of(deployment, context)
        routes[deployment.id] = (record.version, dict(record.value or {}))
    return routes
