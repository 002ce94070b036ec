"""Show, change, scale, delete and remove deployments; claim their keys; watch them; show replicas and their logs."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime

from services.chassis.data import Page, PageQuery, check_etag, retry_conflicts
from services.chassis.errors import AlreadyExists, NotFound, WrongState
from services.chassis.events import Record
from services.chassis.launch import Launcher, ProbeState
from services.chassis.masking import mask
from services.chassis.names import UpdateLabels
from services.chassis.rpc import opened
from services.clients.records import ROUTE_BUCKET
from services.serving.domain.entities import Billing, Deployment, Replica, State
from services.serving.operations import money
from services.serving.operations.context import ServiceContext
from services.serving.operations.create_deployment import PATH
from services.serving.operations.deployment_state import change_deployment, event_of

_PIECE_BYTES = 65536
_FOLLOW_SECONDS = 0.3
_LONGEST = 16_384


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


async def update_deployment(command: UpdateLabels, context: ServiceContext, now: datetime) -> Deployment:
    """Change title or metadata. Raises: Invalid, NotFound, Conflict."""
    changes = command.changes(PATH)

    def update(deployment: Deployment) -> Deployment:
        check_etag("deployment", command.ref, command.etag, deployment.version)
        return deployment.changed(**changes)

    return await change_deployment(command.ref, update, context, now, project=command.project, happening="updated")


async def scale_deployment(command: ScaleDeployment, context: ServiceContext, now: datetime) -> Deployment:
    """Set the wanted number of replicas. Raises: NotFound, WrongState."""

    def scale(deployment: Deployment) -> Deployment:
        deployment.require_living("scale")
        if deployment.replicas == command.replicas:
            return deployment
        return replace(deployment, replicas=command.replicas, cause=command.cause)

    return await change_deployment(command.ref, scale, context, now, project=command.project, happening="scaled")


async def delete_deployment(project: str, ref: str, context: ServiceContext, now: datetime) -> Deployment:
    """Begin to delete. A deployment that is going is returned as it is. Raises: NotFound."""

    def delete(deployment: Deployment) -> Deployment:
        if deployment.state is State.DELETING:
            return deployment
        return replace(deployment, state=State.DELETING, cause="Its deletion was asked for.")

    return await change_deployment(ref, delete, context, now, project=project)


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
            return _claimed_before(deployment, deployment.key_id, repeated)
        await uow.commit()
    key = await context.clients.credentials.issue_deployment_key(
        command.project, deployment.id, [deployment.name], deployment.name
    )

    def note(one: Deployment) -> Deployment:
        return one if one.key_id == key.id else replace(one, key_id=key.id, cause="Its key was claimed.")

    after = await change_deployment(deployment.id, note, context, now, happening="keyClaimed")
    if not key.secret:  # an earlier claim made it, and its answer was lost
        return _claimed_before(after, key.id, repeated)
    return Claim(after, key.id, key.secret)


def _claimed_before(deployment: Deployment, key_id: str, repeated: bool) -> Claim:
    """Answer a repeated call again, without the secret. Raises: AlreadyExists: it is another call."""
    if repeated:
        return Claim(deployment, key_id)
    raise AlreadyExists(
        f"The key of {deployment.name!r} was claimed before and is shown once only. "
        f"Rotate it to get a new secret: modelry api-keys rotate {key_id}.",
        reason="ALREADY_CLAIMED",
        metadata={"key_id": key_id, "deployment": deployment.id},
    )


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


async def read_logs(
    project: str, ref: str, replica_id: str, follow: bool, launcher: Launcher, context: ServiceContext
) -> AsyncIterator[str]:
    """Yield lines, oldest first, secrets masked; with `follow` until the replica ends. Raises: NotFound."""
    replica = await get_replica(project, ref, replica_id, context)
    await opened()
    offset, rest, running = 0, "", True
    while True:
        chunk = await launcher.logs(replica.id, offset, _PIECE_BYTES)
        *lines, rest = (rest + chunk.text).split("\n")
        for line in lines:
            yield mask(line)[:_LONGEST]
        if chunk.next_offset > offset:
            offset = chunk.next_offset
            continue
        if not follow or not running:
            break
        # Read once more after it was seen ended: its last words may have come in between.
        running = (await launcher.probe(replica.id)).state is ProbeState.RUNNING
        if running:
            await asyncio.sleep(_FOLLOW_SECONDS)
    if rest:
        yield mask(rest)[:_LONGEST]
