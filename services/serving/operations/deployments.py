"""Show, change, scale and delete deployments; claim their keys; watch them; show replicas and their logs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from services.chassis.data import Page, PageQuery, check_etag, retry_conflicts
from services.chassis.errors import AlreadyExists, NotFound, WrongState
from services.chassis.names import check_labels
from services.serving.domain import Deployment, Replica, State
from services.serving.operations.context import Desk, settle
from services.serving.operations.create_deployment import PATH


@dataclass(frozen=True)
class Update:
    """Changes of title and metadata; None leaves them."""

    project: str
    ref: str
    title: str | None
    metadata: Mapping[str, str] | None
    etag: str


@dataclass(frozen=True)
class Claim:
    """The answer of a claim; the secret is empty in a repeat."""

    deployment: Deployment
    key_id: str
    secret: str = ""


async def get_deployment(desk: Desk, project: str, ref: str) -> Deployment:
    """One deployment. Raises: NotFound."""
    async with desk.reading() as uow:
        return await uow.deployments.get(project, ref)


async def list_deployments(desk: Desk, project: str, page: PageQuery) -> Page[Deployment]:
    """A page of deployments. Raises: Invalid."""
    async with desk.reading() as uow:
        return await uow.deployments.list(project, page)


@retry_conflicts
async def update_deployment(desk: Desk, cmd: Update, now: datetime) -> Deployment:
    """Changes title or metadata. Raises: Invalid, NotFound, Conflict."""
    check_labels(cmd.title or "", cmd.metadata or {}, PATH)
    async with desk.writing() as uow:
        found = await uow.deployments.get(cmd.project, cmd.ref)
        check_etag("deployment", cmd.ref, cmd.etag, found.version)
        after = found.changed(
            title=found.title if cmd.title is None else cmd.title,
            metadata=found.metadata if cmd.metadata is None else dict(cmd.metadata),
        )
        after = await settle(desk, uow, found, after, await uow.replicas_of(found.id), now, "updated")
        await uow.commit()
    desk.watchers.notify(after.id, after)
    return after


@retry_conflicts
async def scale_deployment(desk: Desk, project: str, ref: str, replicas: int, cause: str, now: datetime) -> Deployment:
    """Sets the wanted number of replicas. Raises: NotFound, WrongState."""
    async with desk.writing() as uow:
        found = await uow.deployments.get(project, ref)
        found.require_living("scale")
        if found.replicas == replicas:
            return found
        after = replace(found, replicas=replicas, cause=cause)
        after = await settle(desk, uow, found, after, await uow.replicas_of(found.id), now, "scaled")
        await uow.commit()
    desk.watchers.notify(after.id, after)
    desk.wake.set()
    return after


@retry_conflicts
async def delete_deployment(desk: Desk, project: str, ref: str, now: datetime) -> Deployment:
    """Begins to delete. A deployment that is going is returned as it is. Raises: NotFound."""
    async with desk.writing() as uow:
        found = await uow.deployments.get(project, ref)
        if found.state is State.DELETING:
            return found
        after = replace(found, state=State.DELETING, cause="its deletion was asked for")
        after = await settle(desk, uow, found, after, await uow.replicas_of(found.id), now)
        await uow.commit()
    desk.watchers.notify(after.id, after)
    desk.wake.set()
    return after


async def claim_key(desk: Desk, project: str, ref: str, request_id: str, digest: str, now: datetime) -> Claim:
    """Makes the deployment's key and shows it, once. Raises: NotFound, WrongState, AlreadyExists."""
    async with desk.writing() as uow:
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
    made = await desk.clients.credentials.issue_deployment_key(project, found.id, [found.name], found.name)
    after = await _note_key(desk, project, found.id, made.id, now)
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
async def _note_key(desk: Desk, project: str, deployment_id: str, key_id: str, now: datetime) -> Deployment:
    async with desk.writing() as uow:
        found = await uow.deployments.get(project, deployment_id)
        if found.key_id == key_id:
            return found
        after = replace(found, key_id=key_id, cause="its key was claimed")
        after = await settle(desk, uow, found, after, await uow.replicas_of(found.id), now, "keyClaimed")
        await uow.commit()
    desk.watchers.notify(after.id, after)
    return after


async def watch_deployment(desk: Desk, project: str, ref: str, after: int) -> AsyncIterator[Deployment]:
    """A deployment as it is, then each change, up to its end. Raises: NotFound."""
    first = await get_deployment(desk, project, ref)
    last = first

    async def read() -> Deployment:
        async with desk.reading() as uow:
            found = await uow.deployments.by_id(first.id)
        # Another process removed it: its last change is told once more than it was seen.
        return found or replace(last, state=State.DELETED, version=last.version + 1, cause="it was deleted")

    async for deployment in desk.watchers.follow(first.id, read, lambda one: one.state.ended, after):
        last = deployment
        yield deployment


async def list_replicas(desk: Desk, project: str, ref: str, page: PageQuery) -> Page[Replica]:
    """A page of the replicas of a deployment, newest first. Raises: NotFound, Invalid."""
    async with desk.reading() as uow:
        found = await uow.deployments.get(project, ref)
        return await uow.replicas.list(project, page, deployment_id=found.id)


async def get_replica(desk: Desk, project: str, ref: str, replica_id: str) -> Replica:
    """One replica. Raises: NotFound."""
    async with desk.reading() as uow:
        deployment = await uow.deployments.get(project, ref)
        found = await uow.replicas.find(project, replica_id)
    if found is None or found.deployment_id != deployment.id:
        raise NotFound.of("replica", replica_id)
    return found
