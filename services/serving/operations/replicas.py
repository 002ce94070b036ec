"""Changes of replicas; each saves the replica and its deployment's state, route and events together."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from services.chassis.data import retry_conflicts
from services.chassis.errors import NotFound
from services.chassis.ids import new_id
from services.serving.domain.entities import Deployment, Replica, ReplicaState
from services.serving.domain.planning import cores_of
from services.serving.operations.context import ServiceContext
from services.serving.operations.deployment_state import change_deployment, save_deployment


async def load_all(context: ServiceContext) -> list[tuple[Deployment, list[Replica]]]:
    """Return every deployment with its living replicas, oldest first."""
    async with context.reading() as uow:
        deployments = await uow.deployments.select()
        replicas = await uow.living_replicas()
    replicas.sort(key=lambda one: (one.create_time, one.id))
    return [(one, [other for other in replicas if other.deployment_id == one.id]) for one in deployments]


@retry_conflicts
async def create_replica(deployment_id: str, restarts: int, cause: str, context: ServiceContext, now: datetime) -> None:
    """Add a replica, in PENDING."""
    async with context.writing() as uow:
        deployment = await uow.deployments.by_id(deployment_id)
        if deployment is None:
            return
        cores = cores_of(deployment.engine.cpus, context.cores, deployment.replicas)
        replica = Replica(
            id=new_id("rep-"),
            project=deployment.project,
            deployment_id=deployment.id,
            state=ReplicaState.PENDING,
            create_time=now,
            update_time=now,
            cpu_count=min(cores, context.cores),
            restart_count=restarts,
            cause=cause,
        )
        await uow.replicas.add(replica)
        happening = "restarted" if restarts else ""
        changed = deployment
        if restarts:  # an older failure gives way to what went wrong last
            changed = replace(deployment, cause=f"A replica is replaced: {cause}", failure=None)
        after = await save_deployment(
            uow, deployment, changed, await uow.replicas_of(deployment.id), context, now, happening=happening
        )
        await uow.commit()
    context.tell(after)


async def move_replica(
    replica_id: str, target: ReplicaState, cause: str, context: ServiceContext, now: datetime, **changes: Any
) -> Replica | None:
    """Move a replica to another state and save its deployment's. None: it is gone or there already."""

    def step(replica: Replica) -> Replica:
        return replica.apply(target, now, cause, **changes)

    return await _change(replica_id, step, target, context, now)


async def note_replica(replica_id: str, context: ServiceContext, now: datetime, **changes: Any) -> Replica | None:
    """Note other facts of a replica in the same state."""
    return await _change(replica_id, lambda replica: replica.noted(now, **changes), None, context, now)


@retry_conflicts
async def _change(
    replica_id: str,
    step: Callable[[Replica], Replica],
    target: ReplicaState | None,
    context: ServiceContext,
    now: datetime,
) -> Replica | None:
    async with context.writing() as uow:
        replica = await uow.replicas.by_id(replica_id)
        if replica is None or replica.state is target or replica.state.ended:
            return None
        deployment = await uow.deployments.by_id(replica.deployment_id)
        if deployment is None:
            return None
        replica = step(replica)
        await uow.replicas.save(replica)
        words = f"Replica {replica.id}: {replica.cause}" if replica.cause else deployment.cause
        changed, replicas = replace(deployment, cause=words), await uow.replicas_of(deployment.id)
        after = await save_deployment(uow, deployment, changed, replicas, context, now)
        if replica.state is ReplicaState.DRAINING:
            replica = replica.noted(now, drain_version=after.route_version)
            await uow.replicas.save(replica)
        await uow.commit()
    if after.version != deployment.version:
        context.tell(after)
    return replica


async def refresh_deployment(deployment_id: str, cause: str, context: ServiceContext, now: datetime) -> None:
    """Judge a deployment again: why its files cannot be had has changed."""
    with suppress(NotFound):
        await change_deployment(deployment_id, lambda one: replace(one, cause=cause or one.cause), context, now)


async def drop_ended(deployment_id: str, context: ServiceContext) -> list[str]:
    """Forget the oldest of the ended replicas; return their ids."""
    async with context.writing() as uow:
        dropped = (await uow.ended_replicas(deployment_id))[context.settings.replicas_kept :]
        for one in dropped:
            await uow.replicas.delete(one)
        await uow.commit()
    return [one.id for one in dropped]
