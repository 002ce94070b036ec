"""Show, change, scale and delete deployments; claim their keys; watch them; show replicas and their logs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime

from services.chassis.data import Page, PageQuery, check_etag, retry_conflicts
from services.chassis.errors import AlreadyExists, NotFound, WrongState
from services.chassis.names import UpdateLabels
from services.serving.domain import Deployment, Replica, State
from services.serving.operations.context import ServiceContext, save_deployment
from services.serving.operations.create_deployment import PATH


@dataclass(frozen=True)
class Claim:
    """The answer of a claim; the secret is empty in a repeat."""

    deployment: Deployment
    key_id: str
    secret: str = ""


async def get_deployment(context: ServiceContext, project: str, ref: str) -> Deployment:
    """One deployment. Raises: NotFound."""
    async with context.reading() as uow:
        return await uow.deployments.get(project, ref)


async def list_deployments(context: ServiceContext, project: str, page: PageQuery) -> Page[Deployment]:
    """A page of deployments. Raises: Invalid."""
    async with context.reading() as uow:
        return await uow.deployments.list(project, page)


@retry_conflicts
async def update_deployment(context: ServiceContext, cmd: UpdateLabels, now: datetime) -> Deployment:
    """Changes title or metadata. Raises: Invalid, NotFound, Conflict."""
    changes = cmd.changes(PATH)
    async with context.writing() as uow:
        found = await uow.deployments.get(cmd.project, cmd.ref)
        check_etag("deployment", cmd.ref, cmd.etag, found.version)
        after = found.changed(**changes)
        after = await save_deployment(context, uow, found, after, await uow.replicas_of(found.id), now, "updated")
        await uow.commit()
    context.watchers.notify(after.id, after)
    return after


@retry_conflicts
async def scale_deployment(
    context: ServiceContext, project: str, ref: str, replicas: int, cause: str, now: datetime
) -> Deployment:
    """Sets the wanted number of replicas. Raises: NotFound, WrongState."""
    async with context.writing() as uow:
        found = await uow.deployments.get(project, ref)
        found.require_living("scale")
        if found.replicas == replicas:
            return found
        after = replace(found, replicas=replicas, cause=cause)
        after = await save_deployment(context, uow, found, after, await uow.replicas_of(found.id), now, "scaled")
        await uow.commit()
    context.watchers.notify(after.id, after)
    context.wake.set()
    return after


@retry_conflicts
async def delete_deployment(context: ServiceContext, project: str, ref: str, now: datetime) -> Deployment:
    """Begins to delete. A deployment that is going is returned as it is. Raises: NotFound."""
    async with context.writing() as uow:
        found = await uow.deployments.get(project, ref)
        if found.state is State.DELETING:
            return found
        after = replace(found, state=State.DELETING, cause="its deletion was asked for")
        after = await save_deployment(context, uow, found, after, await uow.replicas_of(found.id), now)
        await uow.commit()
    context.watchers.notify(after.id, after)
    context.wake.set()
    return after


async def claim_key(
    context: ServiceContext, project: str, ref: str, request_id: str, digest: str, now: datetime
) -> Claim:
    """Makes the deployment's key and shows it, once. Raises: NotFound, WrongState, AlreadyExists."""
    async with context.writing() as uow:
        found = await uow.deployments.get(project, ref)
        claimed = f"{found.id}/{now.isoformat()}"
        repeated = claimed != await uow.claim_request(project, "ClaimDeploymentKey", request_id, digest, claimed)
        found.require_living("claim the key of")
        if found.first_ready_time is None:
            raise WrongState.of("deployment", found.name, "claim the key of", found.state.name, ["READY"], "NOT_READY")
        if found.key_id:
            if repeated:
                return Claim(found, found.key_id)
            raise _claimed(found, found.key_id)
        await uow.commit()
    made = await context.clients.credentials.issue_deployment_key(project, found.id, [found.name], found.name)
    after = await _note_key(context, project, found.id, made.id, now)
    if not made.secret:  # an earlier claim made it, and its answer was lost
        if repeated:
            return Claim(after, made.id)
        raise _claimed(after, made.id)
    return Claim(after, made.id, made.secret)


def _claimed(deployment: Deployment, key_id: str) -> AlreadyExists:
    return AlreadyExists(
        f"The key of {deployment.name!r} was claimed before and is shown once only. "
        f"Rotate it to get a new secret: modelry api-keys rotate {key_id}.",
        reason="ALREADY_CLAIMED",
        metadata={"key_id": key_id, "deployment": deployment.id},
    )


@retry_conflicts
async def _note_key(
    context: ServiceContext, project: str, deployment_id: str, key_id: str, now: datetime
) -> Deployment:
    async with context.writing() as uow:
        found = await uow.deployments.get(project, deployment_id)
        if found.key_id == key_id:
            return found
        after = replace(found, key_id=key_id, cause="its key was claimed")
        after = await save_deployment(context, uow, found, after, await uow.replicas_of(found.id), now, "keyClaimed")
        await uow.commit()
    context.watchers.notify(after.id, after)
    return after


async def watch_deployment(context: ServiceContext, project: str, ref: str, after: int) -> AsyncIterator[Deployment]:
    """A deployment as it is, then each change, up to its end. Raises: NotFound."""
    first = await get_deployment(context, project, ref)
    last = first

    async def read() -> Deployment:
        async with context.reading() as uow:
            found = await uow.deployments.by_id(first.id)
        # Another process removed it: its last change is told once more than it was seen.
        return found or replace(last, state=State.DELETED, version=last.version + 1, cause="it was deleted")

    async for deployment in context.watchers.follow(first.id, read, lambda one: one.state.ended, after):
        last = deployment
        yield deployment


async def list_replicas(context: ServiceContext, project: str, ref: str, page: PageQuery) -> Page[Replica]:
    """A page of the replicas of a deployment, newest first. Raises: NotFound, Invalid."""
    async with context.reading() as uow:
        found = await uow.deployments.get(project, ref)
        return await uow.replicas.list(project, page, deployment_id=found.id)


async def get_replica(context: ServiceContext, project: str, ref: str, replica_id: str) -> Replica:
    """One replica. Raises: NotFound."""
    async with context.reading() as uow:
        deployment = await uow.deployments.get(project, ref)
        found = await uow.replicas.find(project, replica_id)
    if found is None or found.deployment_id != deployment.id:
        raise NotFound.of("replica", replica_id)
    return found
