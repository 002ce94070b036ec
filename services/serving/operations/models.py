"""What the registry says of models, in serving's own words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelry.registry.v1 import internal_pb2, registry_pb2
from services.chassis.errors import ModelryError, NotFound, Unavailable
from services.serving.domain import Files, ModelFacts, merge_only
from services.serving.operations.context import Desk

ADAPTER_CONFIG = "adapter_config.json"
_ADAPTERS = 200


@dataclass(frozen=True)
class Found:
    """A resolved reference: the version, its facts, and why it failed if it did."""

    version_id: str
    model_name: str
    state: str
    facts: ModelFacts
    failure: str = ""


async def find_model(desk: Desk, project: str, reference: str, holder: str = "") -> Found:
    """The version that a reference means, held for `holder` if one is given. Raises: NotFound, Invalid."""
    request = internal_pb2.ResolveModelRequest(reference=reference, holder=holder)
    try:
        found = await desk.peers.registry_internal.ResolveModel(request, metadata=desk.peers.metadata(project))
    except NotFound as error:
        raise NotFound(error.message, metadata={**error.metadata, "field": "deployment.model"}) from error
    version = found.version
    return Found(
        version.id,
        version.model_name,
        registry_pb2.ModelVersion.State.Name(version.state),
        facts_of(found),
        version.failure.message,
    )


def facts_of(found: internal_pb2.ResolvedModel) -> ModelFacts:
    """What the registry says, as a value."""
    version = found.version
    adapter = version.kind == registry_pb2.ModelVersion.ADAPTER
    own = _files(found.files)
    base = found.base if adapter else version
    return ModelFacts(
        adapter=adapter,
        base_version_id=base.id,
        base_model_name=found.base_model_name,
        fine_tuned_name=version.fine_tuned_name,
        lora_rank=version.lora_rank,
        parameter_count=version.parameter_count or base.parameter_count,
        context_length=version.context_length or base.context_length,
        size_bytes=base.size_bytes,
        shape=dict(found.shape),
        base=_files(found.base_files) if adapter else own,
        own=own if adapter else None,
    )


def _files(files: internal_pb2.ModelFiles) -> Files | None:
    if not files.manifest_json:
        return None
    return Files(files.version_id, files.bucket, files.prefix, files.manifest_json, files.digest)


async def adapter_config(desk: Desk, files: Files) -> Mapping[str, Any]:
    """The PEFT configuration of an adapter, read from the store. Raises: Unavailable."""
    key = f"{files.prefix.rstrip('/')}/{ADAPTER_CONFIG}"
    try:
        config: Mapping[str, Any] = json.loads(await asyncio.to_thread(lambda: desk.store.get_bytes(files.bucket, key)))
    except (NotFound, ValueError) as error:
        raise Unavailable(f"The adapter's {ADAPTER_CONFIG} cannot be read.", reason="ADAPTER_UNREADABLE") from error
    return config


async def why_merge_only(desk: Desk, facts: ModelFacts) -> str:
    """Why an adapter cannot be attached; empty if it can, or if nobody can say now."""
    if facts.own is None:
        return ""
    try:
        return merge_only(await adapter_config(desk, facts.own))
    except ModelryError:
        return ""


async def adapters_of(desk: Desk, project: str, base_id: str) -> list[str]:
    """Ids of the project's published adapters of a base, newest first."""
    request = registry_pb2.ListModelVersionsRequest(
        model="-", page_size=_ADAPTERS, filter="kind = ADAPTER AND state = READY"
    )
    answer = await desk.peers.registry.ListModelVersions(request, metadata=desk.peers.metadata(project))
    return [one.id for one in answer.model_versions if one.base_model_version_id == base_id]
