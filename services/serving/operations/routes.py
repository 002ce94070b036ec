"""What gateways are told of a deployment, and what they should know of all."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from services.chassis.data import retry_conflicts
from services.chassis.events import Record
from services.clients.records import ROUTE_BUCKET, AdapterRecord, CallLimits, ReplicaRecord, RouteRecord
from services.serving.domain.entities import Deployment, Engine, Mode, Replica, ReplicaState, State
from services.serving.domain.planning import sequences_of
from services.serving.operations.context import ServiceContext
from services.serving.settings import ServingSettings
from services.serving.store import ServingUnit


def route_of(deployment: Deployment, replicas: Sequence[Replica]) -> RouteRecord:
    """Return the route of a deployment as it is, with the version that gateways were told last and without secrets."""
    # A deployment of an attached adapter answers under its name once the adapter is on all replicas.
    own = next((one for one in deployment.adapters if one.own), None)
    answers = deployment.effective_mode is not Mode.ATTACHED or (own is not None and own.ready)
    ready = [one for one in replicas if answers and one.state is ReplicaState.READY]
    took = [one.ready_seconds for one in replicas if one.ready_seconds]
    coming = [one.create_time for one in replicas if one.state in (ReplicaState.PENDING, ReplicaState.STARTING)]
    return RouteRecord(
        deployment_id=deployment.id,
        project=deployment.project,
        name=deployment.name,
        version=deployment.route_version,
        engine_model=deployment.name,
        model_version_id=deployment.model_version_id,
        state=deployment.state.name,
        deleted=deployment.state is State.DELETED,
        max_model_length=deployment.engine.max_model_length,
        billing=deployment.billing.name,
        shared_with=deployment.shared_with,
        accepts_adapters=deployment.accepts_adapters,
        replicas=tuple(ReplicaRecord(one.id, one.address) for one in ready),
        adapters=tuple(_adapters_of(deployment)),
        start_seconds=took[-1] if took else deployment.route.get("start_seconds", 0.0),
        starting_since=min(coming).timestamp() if coming and not ready else 0.0,
    )


def limits_of(engine: Engine, settings: ServingSettings) -> CallLimits:
    """Return what a call may ask of an engine: a key has half of it at most, so that another key finds room."""
    sequences = max(1, sequences_of(engine) // 2)
    return CallLimits(sequences, min(settings.max_choices, sequences), settings.max_logprobs)


def _adapters_of(deployment: Deployment) -> Iterator[AdapterRecord]:
    """Yield the tuned names that it answers to, ready or not; one without an engine name can never be attached."""
    for one in deployment.adapters:
        if one.fine_tuned_name and one.engine_name:
            project = one.project or deployment.project
            yield AdapterRecord(one.fine_tuned_name, one.model_version_id, one.engine_name, one.ready, project)
    own, version_id = deployment.facts.fine_tuned_name, deployment.model_version_id
    if deployment.effective_mode is Mode.MERGED and own:
        yield AdapterRecord(own, version_id, deployment.name, True, deployment.project)


def told_route(deployment: Deployment) -> RouteRecord | None:
    """Return the route that gateways were told last, without secrets; None before the first."""
    if not deployment.route:
        return None
    return RouteRecord.from_json({**deployment.route, "version": deployment.route_version})


def record_of(route: RouteRecord, secret_of: Callable[[str], str]) -> Record:
    """Return a route as it is put into the bucket, with the secrets of its replicas."""
    replicas = tuple(replace(one, secret=secret_of(one.id)) for one in route.replicas)
    return Record(ROUTE_BUCKET, route.deployment_id, route.version, replace(route, replicas=replicas).to_json())


async def all_routes(uow: ServingUnit, secret_of: Callable[[str], str]) -> dict[str, tuple[int, dict[str, Any] | None]]:
    """Return the records of all deployments, for the comparison of the bucket: id -> version and value."""
    async with uow:
        routes = [told_route(one) for one in await uow.deployments.select()]
    records = [record_of(route, secret_of) for route in routes if route is not None]
    return {record.key: (record.version, dict(record.value or {})) for record in records}


@retry_conflicts
async def overtake_routes(context: ServiceContext, ahead: Mapping[str, tuple[int, Any]]) -> None:
    """Raise the versions of routes above those that the bucket holds, as after a restore of an older copy."""
    async with context.writing() as uow:
        for deployment_id, (version, _) in ahead.items():
            deployment = await uow.deployments.by_id(deployment_id)
            if deployment is not None and deployment.route_version <= version:
                await uow.deployments.save(deployment.changed(route_version=version + 1))
        await uow.commit()
