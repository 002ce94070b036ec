"""What serving makes of a model version, and whether an adapter can be attached."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from services.chassis.engines import merge_only
from services.chassis.errors import ModelryError, NotFound, Unavailable
from services.clients.registry import ModelInfo
from services.serving.domain import Files, ModelFacts
from services.serving.operations.context import ServiceContext

ADAPTER_CONFIG = "adapter_config.json"


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
    files = model.files
    if files is None:
        return None
    return Files(model.version_id, files.bucket, files.prefix, files.manifest_json, model.digest)


async def adapter_config(files: Files, context: ServiceContext) -> Mapping[str, Any]:
    """Return the PEFT configuration of an adapter, read from the store. Raises: Unavailable."""
    key = f"{files.prefix.rstrip('/')}/{ADAPTER_CONFIG}"
    try:
        config: Mapping[str, Any] = json.loads(
            await asyncio.to_thread(lambda: context.store.get_bytes(files.bucket, key))
        )
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
