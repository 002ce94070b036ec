"""Show, change, scale and delete deployments; claim their keys; watch them; show replicas and their logs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime

from services.chassis.data import Page, PageQuery, check_etag, retry_conflicts
from services.chassis.errors import AlreadyExists, NotFound, WrongState
from services.chassis.names import UpdateLabels
from services.serving.domain import Deployment, Replica, State
from services.serving.operations.context import ServiceContext
from services.serving.operations.create_deployment import PATH
from services.serving.operations.deployment_state import save_deployment


@dataclass(frozen=True)
class ScaleDeployment:
    """Set the wanted number of replicas; the cause is shown."""

    project: str
    ref: str
    replicas: int
    cause: str


@dataclass(frozen=True)
class ClaimKey:
    """Make the key of a deployment and show it once."""

    project: str
    ref: str
    request_id: str
    request_digest: str


@dataclass(frozen=True)
class Claim:
    """The answer of a claim; the secret is empty in a repeat."""

    deployment: Deployment
    key_id: str
    secret: str = ""


async def get_deployment(project: str, ref: str, context: ServiceContext) -> Deployment:
    """Return one deployment. Raises: NotFound."""
    async with context.reading() as uow:
        return await uow.deployments.get(project, ref)


async def list_deployments(project: str, page: PageQuery, context: ServiceContext) -> Page[Deployment]:
    """Return a page of deployments. Raises: Invalid."""
    async with context.reading() as uow:
        return await uow.deployments.list(project, page)


@retry_conflicts
async def update_deployment(command: UpdateLabels, context: ServiceContext, now: datetime) -> Deployment:
    """Change title or metadata. Raises: Invalid, NotFound, Conflict."""
    changes = command.changes(PATH)
    async with context.writing() as uow:
        deployment = await uow.deployments.get(command.project, command.ref)
        check_etag("deployment", command.ref, command.etag, deployment.version)
        after = deployment.changed(**changes)
        after = await save_deployment(
            uow, deployment, after, await uow.replicas_of(deployment.id), context, now, happening="updated"
        )
        await uow.commit()
    context.watchers.notify(after.id, after)
    return after


@retry_conflicts
async def scale_deployment(command: ScaleDeployment, context: ServiceContext, now: datetime) -> Deployment:
    """Set the wanted number of replicas. Raises: NotFound, WrongState."""
    async with context.writing() as uow:
        deployment = await uow.deployments.get(command.project, command.ref)
        deployment.require_living("scale")
        if deployment.replicas == command.replicas:
            return deployment
        after = replace(deployment, replicas=command.replicas, cause=command.cause)
        after = await save_deployment(
            uow, deployment, after, await uow.replicas_of(deployment.id), context, now, happening="scaled"
        )
        await uow.commit()
    context.watchers.notify(after.id, after)
    context.wake.set()
    return after


@retry_conflicts
async def delete_deployment(project: str, ref: str, context: ServiceContext, now: datetime) -> Deployment:
    """Begin to delete. A deployment that is going is returned as it is. Raises: NotFound."""
    async with context.writing() as uow:
        deployment = await uow.deployments.get(project, ref)
        if deployment.state is State.DELETING:
            return deployment
        after = replace(deployment, state=State.DELETING, cause="Its deletion was asked for.")
        after = await save_deployment(uow, deployment, after, await uow.replicas_of(deployment.id), context, now)
        await uow.commit()
    context.watchers.notify(after.id, after)
    context.wake.set()
    return after


async def claim_key(command: ClaimKey, context: ServiceContext, now: datetime) -> Claim:
    """Make the deployment's key and show it, once. Raises: NotFound, WrongState, AlreadyExists."""
    async with context.writing() as uow:
        deployment = await uow.deployments.get(command.project, command.ref)
        claimed = f"{deployment.id}/{now.isoformat()}"
        repeated = claimed != await uow.claim_request(
            command.project, "ClaimDeploymentKey", command.request_id, command.request_digest, claimed
        )
        deployment.require_living("claim the key of")
        if deployment.first_ready_time is None:
            raise WrongState.of(
                "deployment", deployment.name, "claim the key of", deployment.state.name, ["READY"], "NOT_READY"
            )
        if deployment.key_id:
            if repeated:
                return Claim(deployment, deployment.key_id)
            raise _claimed(deployment, deployment.key_id)
        await uow.commit()
    key = await context.clients.credentials.issue_deployment_key(
        command.project, deployment.id, [deployment.name], deployment.name
    )
    after = await _note_key(command.project, deployment.id, key.id, context, now)
    if not key.secret:  # an earlier claim made it, and its answer was lost
        if repeated:
            return Claim(after, key.id)
        raise _claimed(after, key.id)
    return Claim(after, key.id, key.secret)


def _claimed(deployment: Deployment, key_id: str) -> AlreadyExists:
    return AlreadyExists(
        f"The key of {deployment.name!r} was claimed before and is shown once only. "
        f"Rotate it to get a new secret: modelry api-keys rotate {key_id}.",
        reason="ALREADY_CLAIMED",
        metadata={"key_id": key_id, "deployment": deployment.id},
    )


@retry_conflicts
async def _note_key(
    project: str, deployment_id: str, key_id: str, context: ServiceContext, now: datetime
) -> Deployment:
    async with context.writing() as uow:
        deployment = await uow.deployments.get(project, deployment_id)
        if deployment.key_id == key_id:
            return deployment
        after = replace(deployment, key_id=key_id, cause="Its key was claimed.")
        after = await save_deployment(
            uow, deployment, after, await uow.replicas_of(deployment.id), context, now, happening="keyClaimed"
        )
        await uow.commit()
    context.watchers.notify(after.id, after)
    return after


async def watch_deployment(project: str, ref: str, after: int, context: ServiceContext) -> AsyncIterator[Deployment]:
    """Yield a deployment as it is, then each change, up to its end. Raises: NotFound."""
    first = await get_deployment(project, ref, context)
    last = first

    async def read() -> Deployment:
        async with context.reading() as uow:
            deployment = await uow.deployments.by_id(first.id)
        # Another process removed it: its last change is told once more than it was seen.
        return deployment or replace(last, state=State.DELETED, version=last.version + 1, cause="It was deleted.")

    async for deployment in context.watchers.follow(first.id, read, lambda one: one.state.ended, after):
        last = deployment
        yield deployment


async def list_replicas(project: str, ref: str, page: PageQuery, context: ServiceContext) -> Page[Replica]:
    """Return a page of the replicas of a deployment, newest first. Raises: NotFound, Invalid."""
    async with context.reading() as uow:
        deployment = await uow.deployments.get(project, ref)
        return await uow.replicas.list(project, page, deployment_id=deployment.id)


async def get_replica(project: str, ref: str, replica_id: str, context: ServiceContext) -> Replica:
    """Return one replica. Raises: NotFound."""
    async with context.reading() as uow:
        deployment = await uow.deployments.get(project, ref)
        replica = await uow.replicas.find(project, replica_id)
    if replica is None or replica.deployment_id != deployment.id:
        raise NotFound.of("replica", replica_id)
    return replica
