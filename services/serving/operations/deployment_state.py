"""The state of a deployment as it is saved: judged by its replicas, with its route and its events."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from services.chassis.data import retry_conflicts
from services.chassis.errors import NotFound
from services.chassis.events import Event
from services.serving.domain.deciding import deployment_state
from services.serving.domain.entities import Deployment, Replica, State
from services.serving.operations.context import ServiceContext
from services.serving.operations.routes import record_of, route_of, told_route
from services.serving.store import ServingUnit


def event_of(after: Deployment, before: Deployment, happening: str) -> Event:
    """Return the event of a deployment's change."""
    links = {"model_version": after.model_version_id}
    if after.facts.base_version_id:
        links["base_model_version"] = after.facts.base_version_id
    return Event(
        project=after.project,
        resource="deployment",
        resource_id=after.id,
        happening=happening,
        state=after.state.name,
        previous_state=before.state.name,
        version=after.version,
        cause=after.cause,
        links=links,
        terminal=after.state.ended,
    )


async def save_deployment(
    uow: ServingUnit,
    before: Deployment,
    after: Deployment,
    replicas: Sequence[Replica],
    context: ServiceContext,
    now: datetime,
    *,
    happening: str = "",
) -> Deployment:
    """Save a deployment whose replicas or options changed, with its state, its route and its events.

    `happening` is emitted even where the state is the same; a new state is emitted by its own name.
    """
    state, failure = deployment_state(
        after, replicas, context.settings.failing_restarts, context.troubles.get(after.id)
    )
    ready = sum(one.state.name == "READY" for one in replicas)
    first = after.first_ready_time or (now if state is State.READY else None)
    after = replace(after, state=state, failure=failure, ready_replicas=ready, first_ready_time=first)
    route = route_of(after, replicas)
    if route != told_route(before):
        after = replace(after, route=route.to_json(), route_version=before.route_version + 1)
    if after == before:
        return before
    after = replace(after, version=before.version + 1)
    await uow.deployments.save(after)
    turned = state is not before.state
    if happening and not (turned and happening == state.name.lower()):
        uow.emit(event_of(after, before, happening))
        if turned:  # each event is of a version of its own: what was asked first, then what came of it
            after = after.changed()
            await uow.deployments.save(after)
    if turned:
        uow.emit(event_of(after, before, state.name.lower()))
    if after.route_version != before.route_version:
        told = replace(route, version=after.route_version)
        uow.put_record(record_of(told, context.secret_of))
    return after


@retry_conflicts
async def change_deployment(
    ref: str,
    step: Callable[[Deployment], Deployment],
    context: ServiceContext,
    now: datetime,
    *,
    project: str = "",
    happening: str = "",
) -> Deployment:
    """Load a deployment, save what `step` makes of it, and tell those who wait for a change.

    `step` changes nothing by returning what it was given. Without a project, `ref` is an id that no caller gave.
    Raises: NotFound; what `step` raises.
    """
    async with context.writing() as uow:
        before = await (uow.deployments.get(project, ref) if project else uow.deployments.by_id(ref))
        if before is None:
            raise NotFound.of("deployment", ref)
        after = step(before)
        if after is not before:
            replicas = await uow.replicas_of(before.id)
            after = await save_deployment(uow, before, after, replicas, context, now, happening=happening)
            await uow.commit()
    if after is not before:
        context.tell(after)
    return after
