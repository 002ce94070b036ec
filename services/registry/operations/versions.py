"""Versions: import, show, watch, delete, resolve and hold for other services, prepare."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from services.chassis.data import Page, PageQuery, retry_conflicts
from services.chassis.errors import Invalid, NotFound
from services.chassis.holds import Hold
from services.chassis.ids import new_id
from services.chassis.locations import ObjectLocation, StoredFiles
from services.chassis.names import check_metadata
from services.chassis.objects import Manifest
from services.chassis.transitions import Failure
from services.clients.credentials import open_location
from services.registry.domain import (
    COMPLETE,
    FAIL,
    GIVE_UP,
    PREPARE,
    PRESETS,
    Files,
    Kind,
    Model,
    ModelVersion,
    State,
    parse_reference,
    refuse_preset,
    version_key,
)
from services.registry.operations.context import ServiceContext, version_event
from services.registry.operations.models import refuse_used
from services.registry.preparation import PreparedModel
from services.registry.store import RegistryUnit

ANY_MODEL = "-"


@dataclass(frozen=True)
class CreateVersion:
    """What to import."""

    project: str
    model: str
    source: ObjectLocation
    metadata: Mapping[str, str]
    request_id: str
    digest: str


async def create_version(command: CreateVersion, context: ServiceContext, now: datetime) -> ModelVersion:
    """Begin the import of a private model. Raises: Invalid, NotFound, WrongState."""
    check_metadata(command.metadata, "model_version.")
    if not command.source.prefix or command.source.prefix.startswith("/"):
        raise Invalid(
            "Name the folder that holds the model, without a leading '/'.", field="model_version.source.prefix"
        )
    source = command.source
    await open_location(context.credentials, command.project, source.credential, source.bucket, "model_version.source")
    async with context.writing() as uow:
        new = new_id("mv-")
        known = await uow.claim_request(command.project, "CreateModelVersion", command.request_id, command.digest, new)
        if known != new:
            return await uow.versions.get(command.project, known)
        model = await uow.model(command.project, command.model)
        refuse_preset(model, "import a version of")
        version = ModelVersion(
            new, command.project, model.id, model.name, model.last_number + 1, State.PREPARING, Kind.FULL, now,
            source=command.source, metadata=dict(command.metadata), cause="Its import was asked for.",
        )  # fmt: skip
        await uow.models.save(model.numbered(now))
        await uow.versions.add(version)
        uow.emit(version_event(version))
        await uow.commit()
    context.wake.set()
    return version


async def find_version(uow: RegistryUnit, project: str, model_ref: str, text: str) -> ModelVersion:
    """Return a version as a path names it. Raises: NotFound, Invalid."""
    key = version_key(text, "version")
    if model_ref == ANY_MODEL:
        if not key.version_id:
            raise Invalid("With the model `-` the version is an id (mv-…).", field="version")
        return await uow.version_by_id(project, key.version_id)
    return await uow.version_of(await uow.model(project, model_ref), key, text)


async def get_version(project: str, model_ref: str, text: str, context: ServiceContext) -> ModelVersion:
    """Return one version. Raises: NotFound, Invalid."""
    async with context.reading() as uow:
        return await find_version(uow, project, model_ref, text)


async def list_versions(project: str, model_ref: str, page: PageQuery, context: ServiceContext) -> Page[ModelVersion]:
    """Return a page of versions of one model, or of all of the project. Raises: NotFound, Invalid."""
    async with context.reading() as uow:
        if model_ref == ANY_MODEL:
            return await uow.versions.list(project, page)
        model = await uow.model(project, model_ref)
        return await uow.versions.list(model.project, page, model_id=model.id)


@retry_conflicts
async def delete_version(project: str, model_ref: str, text: str, context: ServiceContext, now: datetime) -> None:
    """Delete a version. Raises: NotFound, Invalid, WrongState."""
    async with context.writing() as uow:
        version = await find_version(uow, project, model_ref, text)
        model = await uow.model(version.project, version.model_id)
        refuse_preset(model, "delete a version of")
        await refuse_used(uow, "model version", version.label, [version], context, now)
        await uow.versions.delete(version)
        await uow.holds.forget(version.id)
        await uow.discard(context.bucket, context.prefix(version))
        await _renew_latest(uow, model, now)
        uow.emit(version_event(version, version, "deleted"))
        await uow.commit()
    context.watchers.notify(version.id)
    context.garbage.kick()


async def _renew_latest(uow: RegistryUnit, model: Model, now: datetime) -> None:
    ready = [version.number for version in await uow.versions_in(model.id) if version.state is State.READY]
    newest = max(ready, default=0)
    if newest != model.latest_version:
        await uow.models.save(replace(model, latest_version=newest, update_time=now, version=model.version + 1))


async def watch_version(
    project: str, model_ref: str, text: str, after: int, context: ServiceContext
) -> AsyncIterator[ModelVersion]:
    """Yield a version as it is, then each change. Raises: NotFound, Invalid."""
    first = await get_version(project, model_ref, text, context)

    async def read() -> ModelVersion:
        async with context.reading() as uow:
            return await existing(uow, first.id)

    async for version in context.watchers.follow(first.id, read, lambda v: v.state.ended, after):
        yield version


@dataclass(frozen=True)
class Resolved:
    """A version, and the base of an adapter."""

    version: ModelVersion
    base: ModelVersion | None = None


async def resolve_model(project: str, text: str, holder: str, context: ServiceContext, now: datetime) -> Resolved:
    """Return the version that a reference means; with a holder it and its base are held, and a preset is prepared.

    Raises: Invalid, NotFound.
    """
    reference = parse_reference(text, "reference")
    unit = context.writing() if holder else context.reading()
    async with unit as uow:
        version = await uow.resolve(project, reference, text)
        base = await existing(uow, version.base_id) if version.base_id else None
        if holder:
            for held in (version, base):
                if held is not None:
                    await uow.holds.take(Hold(held.id, holder, project, False, now))
            await uow.commit()
    if holder and version.state is State.AVAILABLE and not (version.failure and version.project == PRESETS):
        version = await prepare_version(version.id, context, now)
    return Resolved(version, base)


async def prepare_version(version_id: str, context: ServiceContext, now: datetime) -> ModelVersion:
    """Begin the preparation of a preset, unless it runs or is done. Raises: NotFound."""

    def begin(version: ModelVersion) -> ModelVersion:
        return version.apply(PREPARE, now, "Its first use was asked for.", failure=None, attempts=0)

    if begun := await _change(version_id, State.AVAILABLE, begin, context):
        context.wake.set()
        return begun
    async with context.reading() as uow:
        return await existing(uow, version_id)


async def complete(
    version: ModelVersion, prepared: PreparedModel, context: ServiceContext, now: datetime
) -> ModelVersion | None:
    """Note that a preparation has stored the weights. None: the version is gone, or was completed before."""
    files = files_of(prepared.bucket, prepared.prefix, prepared.manifest)
    return await note_stored(version, files, "Checked and stored.", context, now, **vars(prepared.facts))


def files_of(bucket: str, prefix: str, manifest: Manifest) -> Files:
    """Return the files that a manifest lists, as they lie on the installation's store."""
    stored = StoredFiles(bucket, prefix, json.dumps(manifest.to_json()))
    return Files(stored, manifest.digest, manifest.size_bytes)


@retry_conflicts
async def note_stored(
    version: ModelVersion, files: Files, cause: str, context: ServiceContext, now: datetime, **facts: Any
) -> ModelVersion | None:
    """Note that the weights of a version in PREPARING are stored. None: it is gone, or was completed before."""
    async with context.writing() as uow:
        before = await uow.versions.by_id(version.id)
        if before is None:  # deleted meanwhile: what was written since then is deleted too
            await uow.discard(context.bucket, context.prefix(version))
            await uow.commit()
            return None
        if before.state is not State.PREPARING:
            return None
        after = before.apply(COMPLETE, now, cause, files=files, failure=None, **facts)
        await uow.versions.save(after)
        model = await uow.model(after.project, after.model_id)
        await uow.models.save(model.with_ready(after, now))
        uow.emit(version_event(after, before))
        await uow.commit()
    context.watchers.notify(after.id, after)
    return after


async def fail(version_id: str, failure: Failure, context: ServiceContext, now: datetime) -> ModelVersion | None:
    """Note that a preparation ended without weights. A preset may be tried again, an import has failed for good."""

    def end(version: ModelVersion) -> ModelVersion:
        rule = GIVE_UP if version.project == PRESETS else FAIL
        return version.apply(rule, now, failure.message, failure=failure)

    return await _change(version_id, State.PREPARING, end, context)


async def note_attempt(version_id: str, context: ServiceContext) -> ModelVersion | None:
    """Note that one more preparation begins. None: there is nothing to prepare any more."""

    def count(version: ModelVersion) -> ModelVersion:
        return replace(version, attempts=version.attempts + 1, version=version.version + 1)

    return await _change(version_id, State.PREPARING, count, context)


@retry_conflicts
async def _change(
    version_id: str, state: State, change: Callable[[ModelVersion], ModelVersion], context: ServiceContext
) -> ModelVersion | None:
    """Change a version that is in a state, and tell of the state that it comes to. None: it is not in that state."""
    async with context.writing() as uow:
        before = await uow.versions.by_id(version_id)
        if before is None or before.state is not state:
            return None
        after = change(before)
        await uow.versions.save(after)
        if after.state is not state:
            uow.emit(version_event(after, before))
        await uow.commit()
    if after.state is not state:
        context.watchers.notify(after.id, after)
    return after


async def existing(uow: RegistryUnit, version_id: str) -> ModelVersion:
    """Return a version that was found before, by any project. Raises: NotFound: it is gone meanwhile."""
    version = await uow.versions.by_id(version_id)
    if version is None:
        raise NotFound.of("model version", version_id)
    return version
