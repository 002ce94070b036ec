"""Adapters of deployments: put on, take off, and note where they stand; and the files of the model itself."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from services.chassis.engines import merge_only
from services.chassis.errors import ModelryError, NotFound, Unavailable
from services.chassis.transitions import Failure, FailureKind
from services.clients.registry import ModelInfo
from services.serving.domain.entities import Adapter, Deployment, Files, ModelFacts
from services.serving.domain.planning import adapter_of
from services.serving.operations.context import ServiceContext
from services.serving.operations.deployment_state import change_deployment

ADAPTER_CONFIG = "adapter_config.json"


async def attach_version(project: str, version_id: str, base_id: str, context: ServiceContext, now: datetime) -> int:
    """Attach a published adapter to every deployment that hosts its base for the project; return how many."""
    async with context.reading() as uow:
        every = await uow.deployments.select()
    hosts = [
        one
        for one in every
        if one.accepts_adapters
        and one.facts.base_version_id == base_id
        and not one.state.going
        and project in (one.project, *one.shared_with)
        and all(known.model_version_id != version_id for known in one.adapters)
    ]
    if not hosts:
        return 0
    try:
        model = await context.clients.registry.resolve(project, version_id)
    except NotFound:
        return 0  # deleted meanwhile
    for host in hosts:
        await _attach(host.id, project, model, context, now)
    context.wake.set()
    return len(hosts)


async def _attach(deployment_id: str, project: str, model: ModelInfo, context: ServiceContext, now: datetime) -> None:
    facts = facts_of(model)
    if facts.own is None:
        return
    config = await adapter_config(facts.own, context)

    def add(deployment: Deployment) -> Deployment:
        if any(one.model_version_id == model.version_id for one in deployment.adapters):
            return deployment
        limit, most = context.settings.max_lora_rank, context.settings.max_adapters
        adapter = replace(adapter_of(deployment, facts, config, limit, most), project=project)
        return deployment.with_adapter(adapter, f"The adapter {facts.fine_tuned_name} is attached.")

    await _change(deployment_id, add, "adapterAdded", context, now)


async def attach_published(deployment: Deployment, context: ServiceContext, now: datetime) -> None:
    """Attach the adapters that were published before the deployment was made, the oldest first."""
    if not deployment.accepts_adapters:
        return
    for project in dict.fromkeys((deployment.project, *deployment.shared_with)):
        versions = await context.clients.registry.adapters_of(project, deployment.facts.base_version_id)
        for version_id in reversed(versions[: context.settings.max_adapters]):
            await attach_version(project, version_id, deployment.facts.base_version_id, context, now)


async def detach_version(version_id: str, context: ServiceContext, now: datetime) -> None:
    """Take a version that was deleted off the deployments."""
    async with context.reading() as uow:
        every = await uow.deployments.select()
    words = f"The model version {version_id} was deleted."
    for host in every:
        if any(one.model_version_id == version_id and not one.own for one in host.adapters):
            await _change(host.id, lambda one: one.without_adapter(version_id, words), "adapterRemoved", context, now)
    context.wake.set()


async def note_adapters(
    deployment_id: str, ready: Mapping[str, tuple[bool, str]], context: ServiceContext, now: datetime
) -> None:
    """Note where adapters stand: version id -> (on all replicas, why not)."""

    def noted(one: Adapter) -> Adapter:
        on, why = ready.get(one.model_version_id, (one.ready, one.cause))
        return replace(one, ready=on, cause=why)

    def note(deployment: Deployment) -> Deployment:
        adapters = tuple(map(noted, deployment.adapters))
        if adapters == deployment.adapters:
            return deployment
        fresh = [a.fine_tuned_name for a, b in zip(adapters, deployment.adapters, strict=True) if a.ready > b.ready]
        words = f"Attached on all replicas: {', '.join(fresh)}." if fresh else deployment.cause
        return replace(deployment, adapters=adapters, cause=words)

    await _change(deployment_id, note, "adaptersChanged", context, now)


async def refresh_facts(deployment: Deployment, context: ServiceContext, now: datetime) -> Deployment | None:
    """Ask the registry for a model that was not prepared yet. None: it still is not, or it failed."""
    model = await context.clients.registry.resolve(deployment.project, deployment.model_version_id, deployment.id)
    if model.state == "FAILED":
        words = f"The model cannot be used: {model.failure or 'its preparation failed.'}"
        context.troubles[deployment.id] = Failure("MODEL_FAILED", words, FailureKind.USER)
        return None
    facts = facts_of(model)
    if not facts.prepared:
        return None

    def take(one: Deployment) -> Deployment:
        longest = min(facts.context_length or one.engine.max_model_length, one.engine.max_model_length)
        return replace(one, facts=facts, engine=replace(one.engine, max_model_length=longest))

    return await _change(deployment.id, take, "prepared", context, now)


async def own_adapter(deployment: Deployment, context: ServiceContext, now: datetime) -> Deployment | None:
    """Make the deployment's own version the first of its adapters, where it is served beside its base."""
    if any(one.own for one in deployment.adapters):
        return deployment
    facts = deployment.facts
    assert facts.own is not None, "an adapter that is prepared has files"
    config = await adapter_config(facts.own, context)
    adapter = adapter_of(deployment, facts, config, context.settings.max_lora_rank, context.settings.max_adapters)
    if adapter.cause:
        words = f"The adapter is not attached: {adapter.cause}"
        context.troubles[deployment.id] = Failure("ADAPTER_NOT_ATTACHABLE", words, FailureKind.USER)
        return None
    return await _change(
        deployment.id, lambda one: one.with_adapter(adapter, "Its adapter is attached."), "adapterAdded", context, now
    )


async def _change(
    deployment_id: str, step: Callable[[Deployment], Deployment], happening: str, context: ServiceContext, now: datetime
) -> Deployment | None:
    """Change a living deployment. None: it is gone or going."""

    def of_living(deployment: Deployment) -> Deployment:
        return deployment if deployment.state.going else step(deployment)

    try:
        after = await change_deployment(deployment_id, of_living, context, now, happening=happening)
    except NotFound:
        return None
    return None if after.state.going else after


def facts_of(model: ModelInfo) -> ModelFacts:
    """Return what a deployment remembers of the version that it serves."""
    full = model.full
    return ModelFacts(
        adapter=model.adapter,
        base_version_id=full.version_id,
        fine_tuned_name=model.fine_tuned_name,
        lora_rank=model.lora_rank,
        parameter_count=model.parameter_count or full.parameter_count,
        context_length=model.context_length or full.context_length,
        size_bytes=full.size_bytes,
        shape=model.shape,
        base=_files(full),
        own=_files(model) if model.adapter else None,
    )


def _files(model: ModelInfo) -> Files | None:
    return Files(model.version_id, model.files, model.digest) if model.files else None


async def adapter_config(files: Files, context: ServiceContext) -> Mapping[str, Any]:
    """Return the PEFT configuration of an adapter, read from the store. Raises: Unavailable."""
    bucket, key = files.stored.bucket, f"{files.stored.prefix.rstrip('/')}/{ADAPTER_CONFIG}"
    try:
        config: Mapping[str, Any] = json.loads(await asyncio.to_thread(lambda: context.store.get_bytes(bucket, key)))
    except (NotFound, ValueError) as error:
        raise Unavailable(f"The adapter's {ADAPTER_CONFIG} cannot be read.", reason="ADAPTER_UNREADABLE") from error
    return config


async def why_merge_only(facts: ModelFacts, context: ServiceContext) -> str:
    """Return why an adapter cannot be attached; empty if it can, or if nobody can say now."""
    if facts.own is None:
        return ""
    try:
        return merge_only(await adapter_config(facts.own, context))
    except ModelryError:
        return ""
