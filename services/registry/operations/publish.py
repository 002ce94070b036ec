"""Publishing: a checkpoint becomes a model version, copied under the registry's own prefix, with its lineage."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from services.chassis.data import retry_conflicts
from services.chassis.errors import AlreadyExists, Invalid, NotFound, WrongState
from services.chassis.ids import new_id
from services.chassis.names import check_name
from services.chassis.objects import Manifest, ObjectStore, transfer
from services.clients.credentials import open_location
from services.registry.domain import (
    COMPLETE,
    Files,
    Kind,
    Location,
    Model,
    ModelVersion,
    Origin,
    State,
    fine_tuned_name,
)
from services.registry.operations.context import Desk, version_event
from services.registry.operations.models import ID_PREFIXES, add_model, refuse_preset_name
from services.registry.store import RegistryUnit


@dataclass(frozen=True)
class Publication:
    """A checkpoint that shall become a version."""

    project: str
    project_name: str
    model_name: str
    checkpoint_id: str
    job_id: str
    step: int
    final: bool
    base_id: str
    dataset_version_ids: tuple[str, ...]
    place: Location
    manifest: str
    lora_rank: int
    chat_fingerprint: str
    metrics: Mapping[str, float]
    labels: Mapping[str, str]
    suffix: str
    request_id: str
    digest: str


async def project_name(desk: Desk, project: str) -> str:
    """The name of a project, for the `ft:` names of its versions."""
    return (await desk.credentials.project(project, project)).name


async def register_checkpoint(desk: Desk, cmd: Publication, now: datetime) -> ModelVersion:
    """Makes a version of a checkpoint; a repeat finishes what the first call began and returns the same version.

    Raises: Invalid, NotFound, AlreadyExists: the name is a preset's.
    """
    check_name(cmd.model_name, "model_name", ID_PREFIXES)
    version = await _begin(desk, cmd, now)
    if version.state is State.READY:
        return version
    files = await _copy(desk, cmd, version)
    return await _finish(desk, version, files, now)


@retry_conflicts
async def _begin(desk: Desk, cmd: Publication, now: datetime) -> ModelVersion:
    """The version in PREPARING, its number taken: what a crash leaves is finished by the repeat."""
    async with desk.writing() as uow:
        # Without a request id the same checkpoint under the same model name is the same wish.
        key = cmd.request_id or f"{cmd.checkpoint_id}/{cmd.model_name}"
        new = new_id("mv-")
        known = await uow.claim_request(cmd.project, "RegisterCheckpoint", key, cmd.digest, new)
        if known != new:
            return await uow.versions.get(cmd.project, known)
        base = await uow.version_by_id(cmd.project, cmd.base_id)
        if base.kind is Kind.ADAPTER or base.state is not State.READY:
            raise WrongState.of("model version", base.label, "tune", base.state.name, ["READY"])
        model = await _tuned_model(uow, cmd, now)
        version = _version_of(cmd, new, model, base, now)
        await uow.models.save(model.numbered(now))
        await uow.versions.add(version)
        uow.emit(version_event(version))
        await uow.commit()
    return version


async def _tuned_model(uow: RegistryUnit, cmd: Publication, now: datetime) -> Model:
    await refuse_preset_name(uow, cmd.model_name, "model_name")
    found = await uow.models.find(cmd.project, cmd.model_name)
    if found is not None and found.origin is Origin.PRIVATE and found.last_number:
        raise AlreadyExists(
            f"{cmd.model_name!r} is an imported model: a tuned version needs a name of its own.",
            metadata={"field": "model_name"},
        )
    return found or await add_model(uow, cmd.project, cmd.model_name, Origin.TUNED, now)


def _version_of(cmd: Publication, new: str, model: Model, base: ModelVersion, now: datetime) -> ModelVersion:
    suffix = cmd.suffix or cmd.model_name
    name = fine_tuned_name(base.model_name, cmd.project_name, suffix, cmd.job_id, None if cmd.final else cmd.step)
    return ModelVersion(
        id=new,
        project=cmd.project,
        model_id=model.id,
        model_name=model.name,
        number=model.last_number + 1,
        state=State.PREPARING,
        kind=Kind.ADAPTER,
        create_time=now,
        base_id=base.id,
        lora_rank=cmd.lora_rank,
        job_id=cmd.job_id,
        checkpoint_id=cmd.checkpoint_id,
        checkpoint_step=cmd.step,
        dataset_version_ids=cmd.dataset_version_ids,
        fine_tuned_name=name,
        architecture=base.architecture,
        parameter_count=base.parameter_count,
        context_length=base.context_length,
        shape=base.shape,
        chat_fingerprint=cmd.chat_fingerprint or base.chat_fingerprint,
        metrics=dict(cmd.metrics),
        labels=dict(cmd.labels),
        cause=f"published from checkpoint {cmd.checkpoint_id} of job {cmd.job_id}",
    )


async def _copy(desk: Desk, cmd: Publication, version: ModelVersion) -> Files:
    """Copy the adapter under the version's own prefix."""
    try:
        manifest = Manifest.from_json(json.loads(cmd.manifest))
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid("The manifest of the checkpoint cannot be read.", field="manifest_json") from error
    place = cmd.place
    opened = await open_location(desk.credentials, cmd.project, place.credential, place.bucket, "")
    prefix = f"{desk.prefix(version)}/weights"
    await desk.store.ensure_bucket(desk.bucket)
    await asyncio.to_thread(
        transfer,
        ObjectStore(opened.access),
        opened.bucket,
        place.prefix,
        manifest,
        ObjectStore(desk.system),
        (desk.bucket, prefix),
    )
    return Files(desk.bucket, prefix, json.dumps(manifest.to_json()), manifest.digest, manifest.size_bytes)


@retry_conflicts
async def _finish(desk: Desk, version: ModelVersion, files: Files, now: datetime) -> ModelVersion:
    async with desk.writing() as uow:
        found = await uow.versions.by_id(version.id)
        if found is None:  # deleted meanwhile: what was copied since then is deleted too
            await uow.discard(desk.bucket, desk.prefix(version))
            await uow.commit()
            raise NotFound.of("model version", version.id)
        if found.state is State.READY:
            return found
        after = found.apply(COMPLETE, now, found.cause, files=files)
        await uow.versions.save(after)
        model = await uow.model(after.project, after.model_id)
        await uow.models.save(model.with_ready(after, now))
        uow.emit(version_event(after, found))
        await uow.commit()
    desk.watchers.notify(after.id, after)
    return after
