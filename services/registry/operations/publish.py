"""Publishing: a checkpoint becomes a model version, copied under the registry's own prefix, with its lineage."""

import json
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from services.chassis.data import retry_conflicts
from services.chassis.errors import AlreadyExists, Invalid, NotFound, WrongState
from services.chassis.ids import new_id
from services.chassis.names import check_name
from services.chassis.objects import Manifest, ObjectStore, transfer
from services.clients.credentials import open_location
from services.clients.registry import Publication
from services.registry.domain import Files, Kind, Model, ModelVersion, Origin, State, fine_tuned_name
from services.registry.operations.context import ServiceContext, version_event
from services.registry.operations.models import ID_PREFIXES, add_model, refuse_preset_name
from services.registry.operations.versions import existing, files_of, note_stored
from services.registry.store import RegistryUnit

_COPY_SECONDS, _COPY_BYTES_PER_SECOND = 60.0, 1e6
"""A copy from the store of a credential may take so long, and as long again as this rate wants for its size."""


@dataclass(frozen=True, kw_only=True)
class RegisterCheckpoint(Publication):
    """A checkpoint that shall become a version of a project."""

    project: str
    digest: str


async def register_checkpoint(command: RegisterCheckpoint, context: ServiceContext, now: datetime) -> ModelVersion:
    """Make a version of a checkpoint; a repeat finishes what the first call began and returns the same version.

    Raises: Invalid, NotFound, AlreadyExists: the name is a preset's.
    """
    check_name(command.model_name, "model_name", ID_PREFIXES)
    manifest = _manifest_of(command)
    project = await context.credentials.project(command.project, command.project)
    version = await _begin(command, project.name, context, now)
    if version.state is State.READY:
        return version
    files = await _copy(command, manifest, version, context)
    return await _finish(version, files, context, now)


@retry_conflicts
async def _begin(
    command: RegisterCheckpoint, project_name: str, context: ServiceContext, now: datetime
) -> ModelVersion:
    """Insert the version in PREPARING with its number: what a crash leaves is finished by the repeat."""
    async with context.writing() as uow:
        new = new_id("mv-")
        known = await _known_version(uow, command, new)
        if known is not None:
            return known
        base = await uow.version_by_id(command.project, command.base_model_version_id)
        if base.kind is Kind.ADAPTER or base.state is not State.READY:
            raise WrongState.of("model version", base.label, "tune", base.state.name, ["READY"])
        model = await _tuned_model(uow, command, now)
        version = _version_of(command, project_name, new, model, base, now)
        await uow.models.save(model.numbered(now))
        await uow.versions.add(version)
        uow.emit(version_event(version))
        await uow.commit()
    return version


async def _known_version(uow: RegistryUnit, command: RegisterCheckpoint, new: str) -> ModelVersion | None:
    """Return the version of an earlier call with the same wish; None: this is the first, and `new` is its answer."""
    # Without a request id the same checkpoint under the same model name is one wish, while its version exists.
    key = command.request_id or f"{command.checkpoint_id}/{command.model_name}"
    while True:
        try:
            known = await uow.claim_request(command.project, "RegisterCheckpoint", key, command.digest, new)
            return None if known == new else await uow.versions.get(command.project, known)
        except NotFound as gone:
            if command.request_id:
                raise
            key = f"{command.checkpoint_id}/{command.model_name}/{gone.metadata['name']}"


async def _tuned_model(uow: RegistryUnit, command: RegisterCheckpoint, now: datetime) -> Model:
    await refuse_preset_name(uow, command.model_name, "model_name")
    model = await uow.models.find(command.project, command.model_name)
    if model is not None and model.origin is Origin.PRIVATE and model.last_number:
        raise AlreadyExists(
            f"{command.model_name!r} is an imported model: a tuned version needs a name of its own.",
            metadata={"field": "model_name"},
        )
    new = Model(new_id("mdl-"), command.project, command.model_name, "", {}, Origin.TUNED, now, now)
    return model or await add_model(uow, new)


def _version_of(
    command: RegisterCheckpoint, project_name: str, new: str, model: Model, base: ModelVersion, now: datetime
) -> ModelVersion:
    suffix, step = command.suffix or command.model_name, None if command.final else command.step
    return ModelVersion(
        id=new,
        project=command.project,
        model_id=model.id,
        model_name=model.name,
        number=model.last_number + 1,
        state=State.PREPARING,
        kind=Kind.ADAPTER,
        create_time=now,
        base_id=base.id,
        lora_rank=command.lora_rank,
        job_id=command.job_id,
        checkpoint_id=command.checkpoint_id,
        checkpoint_step=command.step,
        dataset_version_ids=tuple(command.dataset_version_ids),
        fine_tuned_name=fine_tuned_name(base.model_name, project_name, suffix, command.job_id, step),
        architecture=base.architecture,
        parameter_count=base.parameter_count,
        context_length=base.context_length,
        shape=base.shape,
        chat_fingerprint=command.chat_fingerprint or base.chat_fingerprint,
        metrics=command.metrics,
        labels=command.labels,
        cause=f"Published from checkpoint {command.checkpoint_id} of job {command.job_id}.",
    )


def _manifest_of(command: RegisterCheckpoint) -> Manifest:
    try:
        return Manifest.from_json(json.loads(command.files.manifest_json))
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid("The manifest of the checkpoint cannot be read.", field="manifest_json") from error


async def _copy(
    command: RegisterCheckpoint, manifest: Manifest, version: ModelVersion, context: ServiceContext
) -> Files:
    """Copy the adapter under the version's own prefix."""
    files = command.files
    opened = await open_location(context.credentials, command.project, files.credential, files.bucket, "")
    source, system = ObjectStore(opened.access), ObjectStore(context.system)
    to = await context.weights_place(version)
    copy = partial(transfer, source, opened.bucket, files.prefix, manifest, system, to)
    seconds = _COPY_SECONDS + manifest.size_bytes / _COPY_BYTES_PER_SECOND
    await context.foreign.run(command.project, opened.access, copy, seconds=seconds)
    return files_of(*to, manifest)


async def _finish(version: ModelVersion, files: Files, context: ServiceContext, now: datetime) -> ModelVersion:
    """Note that the adapter is stored. Raises: NotFound: the version was deleted meanwhile."""
    if after := await note_stored(version, files, version.cause, context, now):
        return after
    async with context.reading() as uow:
        return await existing(uow, version.id)
