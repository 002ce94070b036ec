"""Adapters of deployments: put on, take off, and note where they stand; and the files of the model itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from services.chassis.data import retry_conflicts
from services.chassis.errors import NotFound
from services.chassis.transitions import Failure, FailureKind
from services.clients.registry import ModelInfo
from services.serving.domain import Adapter, Deployment, ModelFacts, State, adapter_of
from services.serving.operations.context import Desk, settle
from services.serving.operations.models import adapter_config, facts_of

GONE = (State.DELETING, State.DELETED)


async def attach_version(desk: Desk, project: str, version_id: str, base_id: str, now: datetime) -> int:
    """A published adapter joins every deployment that hosts its base for the project. Returns how many."""
    hosts = [one for one in await _hosts(desk, base_id) if one.project == project or project in one.shared_with]
    hosts = [one for one in hosts if all(known.model_version_id != version_id for known in one.adapters)]
    if not hosts:
        return 0
    try:
        found = await desk.clients.registry.resolve(project, version_id)
    except NotFound:
        return 0  # deleted meanwhile
    for host in hosts:
        await _attach(desk, host.id, project, found, now)
    desk.wake.set()
    return len(hosts)


async def _hosts(desk: Desk, base_id: str) -> list[Deployment]:
    async with desk.reading() as uow:
        every = await uow.deployments.select()
    return [
        one for one in every if one.accepts_adapters and one.facts.base_version_id == base_id and one.state not in GONE
    ]


async def _attach(desk: Desk, deployment_id: str, project: str, found: ModelInfo, now: datetime) -> None:
    facts = facts_of(found)
    if facts.own is None:
        return
    config = await adapter_config(desk, facts.own)

    def add(deployment: Deployment) -> Deployment:
        if any(one.model_version_id == found.version_id for one in deployment.adapters):
            return deployment
        limit, most = desk.settings.max_lora_rank, desk.settings.max_adapters
        adapter = replace(adapter_of(deployment, facts, config, limit, most), project=project)
        return deployment.with_adapter(adapter, f"the adapter {facts.fine_tuned_name} is attached")

    await _change(desk, deployment_id, add, now, "adapterAdded")


async def attach_published(desk: Desk, deployment: Deployment, now: datetime) -> None:
    """Adapters that were published before the deployment was made join it, the oldest first."""
    if not deployment.accepts_adapters:
        return
    projects = deployment.shared_with if deployment.shared_with else (deployment.project,)
    for project in dict.fromkeys((deployment.project, *projects)):
        found = await desk.clients.registry.adapters_of(project, deployment.facts.base_version_id)
        for version_id in reversed(found[: desk.settings.max_adapters]):
            await attach_version(desk, project, version_id, deployment.facts.base_version_id, now)


async def detach_version(desk: Desk, version_id: str, now: datetime) -> None:
    """A version that was deleted leaves the deployments."""
    async with desk.reading() as uow:
        every = await uow.deployments.select()
    words = f"the model version {version_id} was deleted"

    def remove(deployment: Deployment) -> Deployment:
        return deployment.without_adapter(version_id, words)

    for host in every:
        if any(one.model_version_id == version_id and not one.own for one in host.adapters):
            await _change(desk, host.id, remove, now, "adapterRemoved")
    desk.wake.set()


async def note_adapters(desk: Desk, deployment_id: str, ready: Mapping[str, tuple[bool, str]], now: datetime) -> None:
    """Where adapters stand: version id -> (on all replicas, why not)."""

    def note(deployment: Deployment) -> Deployment:
        adapters = tuple(_noted(one, ready) for one in deployment.adapters)
        if adapters == deployment.adapters:
            return deployment
        fresh = [a.fine_tuned_name for a, b in zip(adapters, deployment.adapters, strict=True) if a.ready > b.ready]
        words = f"attached on all replicas: {', '.join(fresh)}" if fresh else deployment.cause
        return replace(deployment, adapters=adapters, cause=words)

    await _change(desk, deployment_id, note, now, "adaptersChanged")


def _noted(adapter: Adapter, ready: Mapping[str, tuple[bool, str]]) -> Adapter:
    if adapter.model_version_id not in ready:
        return adapter
    on, cause = ready[adapter.model_version_id]
    return replace(adapter, ready=on, cause=cause)


async def refresh_facts(desk: Desk, deployment: Deployment, now: datetime) -> Deployment | None:
    """Ask the registry for a model that was not prepared yet. None: it still is not, or it failed."""
    found = await desk.clients.registry.resolve(deployment.project, deployment.model_version_id, deployment.id)
    if found.state == "FAILED":
        words = f"The model cannot be used: {found.failure or 'its preparation failed.'}"
        desk.troubles[deployment.id] = Failure("MODEL_FAILED", words, FailureKind.USER)
        return None
    facts = facts_of(found)
    return await _take_facts(desk, deployment.id, facts, now) if facts.prepared else None


async def own_adapter(desk: Desk, deployment: Deployment, now: datetime) -> Deployment | None:
    """The deployment's own version as the first of its adapters, where it is served beside its base."""
    if any(one.own for one in deployment.adapters):
        return deployment
    facts = deployment.facts
    assert facts.own is not None, "an adapter that is prepared has files"
    config = await adapter_config(desk, facts.own)
    adapter = adapter_of(deployment, facts, config, desk.settings.max_lora_rank, desk.settings.max_adapters)
    if adapter.cause:
        words = f"Not attached: {adapter.cause}."
        desk.troubles[deployment.id] = Failure("ADAPTER_NOT_ATTACHABLE", words, FailureKind.USER)
        return None
    return await _change(
        desk, deployment.id, lambda one: one.with_adapter(adapter, "its adapter is attached"), now, "adapterAdded"
    )


async def _take_facts(desk: Desk, deployment_id: str, facts: ModelFacts, now: datetime) -> Deployment | None:
    def take(deployment: Deployment) -> Deployment:
        length = deployment.engine.max_model_length
        longest = min(facts.context_length or length, length)
        return replace(deployment, facts=facts, engine=replace(deployment.engine, max_model_length=longest))

    return await _change(desk, deployment_id, take, now, "prepared")


@retry_conflicts
async def _change(
    desk: Desk, deployment_id: str, step: Callable[[Deployment], Deployment], now: datetime, happening: str
) -> Deployment | None:
    """One change of a living deployment. None: it is gone or going."""
    async with desk.writing() as uow:
        found = await uow.deployments.by_id(deployment_id)
        if found is None or found.state in GONE:
            return None
        changed = step(found)
        if changed == found:
            return found
        after = await settle(desk, uow, found, changed, await uow.replicas_of(found.id), now, happening)
        await uow.commit()
    desk.watchers.notify(after.id, after)
    return after
