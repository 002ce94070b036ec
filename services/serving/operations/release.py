"""The end of a deployment: its key, its money and its holds first, then itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from services.chassis.data import retry_conflicts
from services.chassis.events import Record
from services.serving.domain import Billing, Deployment, State
from services.serving.operations import money
from services.serving.operations.context import ROUTES, Desk, event_of


async def remove_deployment(desk: Desk, deployment: Deployment, now: datetime) -> list[str]:
    """Removes a drained deployment; every step may be repeated. Returns the ids of its replicas.

    Raises: Unavailable: somebody could not be told; it is tried again.
    """
    async with desk.reading() as uow:
        found = await uow.deployments.by_id(deployment.id)
    if found is None:
        return []
    deployment = found  # with the hours that were written down last
    clients, project = desk.clients, deployment.project
    if deployment.key_id or deployment.first_ready_time is not None:
        await clients.credentials.revoke_deployment_key(project, deployment.id)
    if deployment.billing is Billing.DEDICATED:
        await money.book(desk, deployment, deployment.slice + 1)
        await clients.billing.release(project, deployment.id)
    await clients.registry.release_hold(project, deployment.id)
    return await _remove(desk, deployment.id, now)


@retry_conflicts
async def _remove(desk: Desk, deployment_id: str, now: datetime) -> list[str]:
    async with desk.writing() as uow:
        found = await uow.deployments.by_id(deployment_id)
        if found is None:
            return []
        ended = [one.id for one in await uow.ended_replicas(deployment_id)]
        gone = replace(
            found,
            state=State.DELETED,
            version=found.version + 1,
            cause="it was deleted",
            ready_replicas=0,
        )
        uow.put_record(Record(ROUTES, found.id, found.route_version + 1, None))
        uow.emit(event_of(gone, found, "deleted"))
        await uow.remove(found)
        await uow.commit()
    desk.watchers.notify(gone.id, gone)
    return ended
