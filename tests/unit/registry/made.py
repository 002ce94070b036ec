"""Models, versions and publications as the tests of the registry's use cases need them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select

from services.chassis.data import outbox
from services.chassis.errors import Unavailable
from services.chassis.locations import ObjectLocation, StoredFiles
from services.chassis.names import CreateNamed
from services.chassis.objects import Manifest, ManifestFile
from services.clients.fakes import FakeCredentials
from services.registry.domain import ModelVersion
from services.registry.operations import models, publish, versions
from services.registry.operations.context import ServiceContext
from services.registry.preparation import ModelFacts, PreparedModel
from services.registry.store import GARBAGE

PROJECT, OTHER = "proj-1", "proj-2"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOLD_SECONDS = 60.0
MANIFEST = Manifest((ManifestFile("config.json", 7, "ab" * 32),))
PRESET: dict[str, Any] = {
    "name": "small",
    "title": "Small",
    "hub_id": "maker/Small",
    "languages": ["en"],
    "license": "Apache-2.0",
    "parameter_count": 1000,
    "context_length": 64,
}


async def create_model(context: ServiceContext, name: str, project: str = PROJECT) -> None:
    await models.create_model(CreateNamed(project, name, "", {}, "", ""), context, NOW)


async def import_version(
    context: ServiceContext, name: str = "own", project: str = PROJECT, request_id: str = ""
) -> ModelVersion:
    """A version of a private model whose import was asked for."""
    wish = versions.CreateVersion(project, name, ObjectLocation("", "team", "sources/own"), {}, request_id, "")
    return await versions.create_version(wish, context, NOW)


def prepared(context: ServiceContext, version: ModelVersion) -> PreparedModel:
    """What the program that prepares a version says at its end."""
    facts = ModelFacts("LlamaForCausalLM", 2000, 128, {"layers": 2}, "chat-1")
    return PreparedModel(context.bucket, f"{context.prefix(version)}/weights", MANIFEST, facts)


async def complete(context: ServiceContext, version: ModelVersion) -> ModelVersion:
    """The version, READY."""
    after = await versions.complete(version, prepared(context, version), context, NOW)
    assert after is not None
    return after


async def ready_model(context: ServiceContext, name: str = "own", project: str = PROJECT) -> ModelVersion:
    """The READY first version of a new private model."""
    await create_model(context, name, project)
    return await complete(context, await import_version(context, name, project))


async def preset(context: ServiceContext) -> ModelVersion:
    """The one version of the preset, as it is now."""
    return await versions.get_version(PROJECT, PRESET["name"], "1", context)


def a_publication(base: ModelVersion, **changes: Any) -> publish.RegisterCheckpoint:
    """The wish to publish a checkpoint as a version of `helper`."""
    wish = publish.RegisterCheckpoint(
        project=PROJECT,
        model_name="helper",
        checkpoint_id="ftckpt_1",
        job_id="ftjob-0123456789",
        step=40,
        final=True,
        base_model_version_id=base.id,
        dataset_version_ids=("dsv-1",),
        files=StoredFiles("", "jobs/1", json.dumps(MANIFEST.to_json())),
        lora_rank=8,
        chat_fingerprint="",
        metrics={"eval_loss": 1.5},
        labels={"dsv-1": "tickets@1", "source:dsv-1": "team/rows"},
        suffix="",
        request_id="",
        digest="digest",
    )
    return replace(wish, **changes)


async def begin_publication(context: ServiceContext, wish: publish.RegisterCheckpoint) -> ModelVersion:
    """What stands in the database when the copy of a checkpoint was cut off: its version in PREPARING."""
    assert isinstance(context.credentials, FakeCredentials)
    context.credentials.away = {"resolve"}
    with pytest.raises(Unavailable):
        await publish.register_checkpoint(wish, context, NOW)
    context.credentials.away = set()
    async with context.reading() as uow:
        return max(await uow.preparing(), key=lambda version: version.number)


async def happenings(context: ServiceContext, resource_id: str = "") -> list[str]:
    """`resource.happening` of the events that wait for the relay, in order; of one resource, if it is named."""
    async with context.reading() as uow:
        rows = await uow.connection.execute(select(outbox.c.subject).order_by(outbox.c.id))
        parts = [subject.split(".") for subject in rows.scalars()]
    return [f"{resource}.{word}" for *_, resource, found, word in parts if resource_id in ("", found)]


async def discarded(context: ServiceContext) -> list[str]:
    """Folders of the installation's store that are to be deleted."""
    async with context.reading() as uow:
        return sorted((await uow.connection.execute(select(GARBAGE.c.prefix))).scalars())
