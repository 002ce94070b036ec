"""The end of a deployment: its key, its money and its holds first, then itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from services.chassis.data import retry_conflicts
from services.chassis.events import Record
from services.clients.records import ROUTE_BUCKET
from services.serving.domain import Billing, Deployment, State
from services.serving.operations import money
from services.serving.operations.context import ServiceContext
from services.serving.operations.deployment_state import event_of


async def remove_deployment(deployment: Deployment, context: ServiceContext, now: datetime) -> list[str]:
    """Remove a drained deployment; every step may be repeated. Returns the ids of its replicas.

    Raises: Unavailable: somebody could not be told; it is tried again.
    """
    async with context.reading() as uow:
        current = await uow.deployments.by_id(deployment.id)
    if current is None:
        return []
    deployment = current  # with the hours that were written down last
    clients, project = context.clients, deployment.project
    if deployment.key_id or deployment.first_ready_time is not None:
        await clients.credentials.revoke_deployment_key(project, deployment.id)
    if deployment.billing is Billing.DEDICATED:
        await money.book(deployment, deployment.slice + 1, context)
        await clients.billing.release(project, deployment.id)
    await clients.registry.release_hold(project, deployment.id)
    return await _remove(deployment.id, context, now)


@retry_conflicts
async def _remove(deployment_id: str, context: ServiceContext, now: datetime) -> list[str]:
    async with context.writing() as uow:
        deployment = await uow.deployments.by_id(deployment_id)
        if deployment is None:
            return []
        ended = [one.id for one in await uow.ended_replicas(deployment_id)]
        gone = replace(
            deployment,
            state=State.DELETED,
            version=deployment.version + 1,
            cause="It was deleted.",
            ready_replicas=0,
        )
        uow.put_record(Record(ROUTE_BUCKET, deployment.id, deployment.route_version + 1, None))
        uow.emit(event_of(gone, deployment, "deleted"))
        await uow.remove(deployment)
        await uow.commit()
    context.watchers.notify(gone.id, gone)
    return ended
