"""Changes of replicas; each saves the replica and its deployment's state, route and events together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from services.chassis.data import retry_conflicts
from services.chassis.ids import new_id
from services.serving.domain import Deployment, Replica, ReplicaState, cores_of
from services.serving.operations.context import ServiceContext, save_deployment
from services.serving.store import ServingUnit


async def load_all(context: ServiceContext) -> list[tuple[Deployment, list[Replica]]]:
    """Every deployment with its living replicas, oldest first."""
    async with context.reading() as uow:
        deployments = await uow.deployments.select()
        replicas = await uow.living_replicas()
    replicas.sort(key=lambda one: (one.create_time, one.id))
    return [(one, [other for other in replicas if other.deployment_id == one.id]) for one in deployments]


@retry_conflicts
async def create_replica(context: ServiceContext, deployment_id: str, restarts: int, cause: str, now: datetime) -> None:
    """One more replica, in PENDING."""
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
            changed = replace(deployment, cause=f"a replica is replaced: {cause}", failure=None)
        after = await save_deployment(
            context, uow, deployment, changed, await uow.replicas_of(deployment.id), now, happening
        )
        await uow.commit()
    context.watchers.notify(after.id, after)


async def move_replica(
    context: ServiceContext, replica_id: str, target: ReplicaState, cause: str, now: datetime, **changes: Any
) -> Replica | None:
    """A replica in another state, its deployment settled. None: it is gone or there already."""

    def step(replica: Replica) -> Replica:
        return replica.apply(target, now, cause, **changes)

    return await _change(context, replica_id, step, target, now)


async def note_replica(context: ServiceContext, replica_id: str, now: datetime, **changes: Any) -> Replica | None:
    """Other facts of a replica in the same state."""
    return await _change(context, replica_id, lambda replica: replica.noted(now, **changes), None, now)


@retry_conflicts
async def _change(
    context: ServiceContext,
    replica_id: str,
    step: Callable[[Replica], Replica],
    target: ReplicaState | None,
    now: datetime,
) -> Replica | None:
    async with context.writing() as uow:
        found = await uow.replicas.by_id(replica_id)
        if found is None or found.state is target or found.state.ended:
            return None
        deployment = await uow.deployments.by_id(found.deployment_id)
        if deployment is None:
            return None
        replica = step(found)
        await uow.replicas.save(replica)
        after = await _with_replicas(context, uow, deployment, replica, now)
        if replica.state is ReplicaState.DRAINING:
            replica = replica.noted(now, drain_version=after.route_version)
            await uow.replicas.save(replica)
        await uow.commit()
    if after.version != deployment.version:
        context.watchers.notify(after.id, after)
    return replica


async def _with_replicas(
    context: ServiceContext, uow: ServingUnit, deployment: Deployment, replica: Replica, now: datetime
) -> Deployment:
    """The deployment after one of its replicas changed; it says why in plain words."""
    replicas = await uow.replicas_of(deployment.id)
    words = f"replica {replica.id}: {replica.cause}" if replica.cause else deployment.cause
    return await save_deployment(context, uow, deployment, replace(deployment, cause=words), replicas, now)


@retry_conflicts
async def settle_deployment(context: ServiceContext, deployment_id: str, cause: str, now: datetime) -> None:
    """Judge a deployment again: what its files are in trouble with has changed."""
    async with context.writing() as uow:
        found = await uow.deployments.by_id(deployment_id)
        if found is None:
            return
        changed = replace(found, cause=cause) if cause else found
        after = await save_deployment(context, uow, found, changed, await uow.replicas_of(found.id), now)
        if after.version == found.version:
            return
        await uow.commit()
    context.watchers.notify(after.id, after)


async def drop_ended(context: ServiceContext, deployment_id: str) -> list[str]:
    """Forget the oldest of the ended replicas; returns their ids."""
    async with context.writing() as uow:
        dropped = (await uow.ended_replicas(deployment_id))[context.settings.replicas_kept :]
        for one in dropped:
            await uow.replicas.delete(one)
        await uow.commit()
    return [one.id for one in dropped]
