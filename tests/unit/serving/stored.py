"""Deployments and replicas in the database, for tests of the use cases."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import select

from services.chassis.auth import Principal, Role
from services.chassis.data import outbox
from services.serving.domain.entities import Deployment, Engine, Replica, ReplicaState
from services.serving.operations import deployments, replicas
from services.serving.operations.context import ServiceContext
from services.serving.operations.create_deployment import CreateDeployment, create_deployment
from tests.unit.serving.made import MOMENT

PROJECT, OTHER = "proj-1", "proj-2"
CALLER = Principal(PROJECT, Role.DEVELOPER, "key-1", "user", "tester")
ADMIN = replace(CALLER, role=Role.ADMIN)
LATER = MOMENT + timedelta(hours=1)


async def create(context: ServiceContext, caller: Principal = CALLER, **fields: Any) -> Deployment:
    command = CreateDeployment(
        **{"caller": caller, "model": "tiny", "name": "help", "engine": Engine(cpus=2), **fields}
    )
    return await create_deployment(command, context, MOMENT)


async def now_of(context: ServiceContext, deployment: Deployment) -> Deployment:
    return await deployments.get_deployment(PROJECT, deployment.id, context)


async def living(context: ServiceContext) -> list[Replica]:
    """Replicas that have not ended, the oldest first."""
    return [one for _, found in await replicas.load_all(context) for one in found]


async def start_replica(context: ServiceContext, deployment: Deployment, to: ReplicaState) -> Replica:
    """One more replica, and its way to a state."""
    known = {one.id for one in await living(context)}
    await replicas.create_replica(deployment.id, 0, "", context, MOMENT)
    (replica,) = [one for one in await living(context) if one.id not in known]
    for state in (ReplicaState.STARTING, ReplicaState.READY):
        if replica.state is not to:
            moved = await replicas.move_replica(replica.id, state, "", context, MOMENT, port=15001)
            assert moved is not None
            replica = moved
    return replica


async def ready_deployment(context: ServiceContext, **fields: Any) -> Deployment:
    made = await create(context, **fields)
    await start_replica(context, made, ReplicaState.READY)
    return await now_of(context, made)


async def happenings(context: ServiceContext) -> list[str]:
    """What the events that wait for the relay say, in order."""
    async with context.reading() as uow:
        events = select(outbox.c.subject).where(outbox.c.kind == "event").order_by(outbox.c.id)
        return [subject.split(".")[-1] for subject in (await uow.connection.execute(events)).scalars()]
