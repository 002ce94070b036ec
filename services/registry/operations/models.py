"""Models: make, show, change, delete, and the presets of the installation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from services.chassis.data import Page, PageQuery, check_etag, retry_conflicts
from services.chassis.errors import AlreadyExists
from services.chassis.holds import refuse_held
from services.chassis.ids import new_id
from services.chassis.names import CreateNamed, UpdateLabels
from services.registry.domain import PRESETS, Kind, Model, ModelVersion, Origin, State, refuse_preset
from services.registry.operations.context import ServiceContext, model_event, version_event
from services.registry.store import MODELS, VERSIONS, RegistryUnit

ID_PREFIXES = ("mdl-", "mv-")
_FACTS = ("title", "hub_id", "languages", "license", "parameter_count", "context_length")


async def refuse_preset_name(uow: RegistryUnit, name: str, field: str) -> None:
    """Refuse the name of a preset for a project's own model. Raises: AlreadyExists."""
    if await uow.models.find(PRESETS, name) is not None:
        raise AlreadyExists(
            f"{name!r} is the name of a preset. Choose another name.", reason="PRESET_NAME", metadata={"field": field}
        )


async def add_model(uow: RegistryUnit, model: Model) -> Model:
    """Add a model of a project. Raises: AlreadyExists."""
    await uow.models.add(model)
    uow.emit(model_event(model, "created"))
    return model


async def create_model(command: CreateNamed, context: ServiceContext, now: datetime) -> Model:
    """Create a private model without a version. Raises: Invalid, AlreadyExists."""
    command.check("model.", ID_PREFIXES)
    async with context.writing() as uow:
        new = new_id("mdl-")
        model_id = await uow.claim_request(command.project, "CreateModel", command.request_id, command.digest, new)
        if model_id != new:
            return await uow.models.get(command.project, model_id)
        await refuse_preset_name(uow, command.name, "model.name")
        model = Model(
            new, command.project, command.name, command.title, dict(command.metadata), Origin.PRIVATE, now, now
        )
        await add_model(uow, model)
        await uow.commit()
    return model


async def get_model(project: str, ref: str, context: ServiceContext) -> Model:
    """Return one model. Raises: NotFound."""
    async with context.reading() as uow:
        return await uow.model(project, ref)


async def list_models(project: str, page: PageQuery, context: ServiceContext) -> Page[Model]:
    """Return a page of the catalogue, presets included. Raises: Invalid."""
    async with context.reading() as uow:
        return await uow.models.list(project, page, shared=PRESETS)


@retry_conflicts
async def update_model(command: UpdateLabels, context: ServiceContext, now: datetime) -> Model:
    """Change title or metadata. Raises: NotFound, Invalid, WrongState, Conflict."""
    async with context.writing() as uow:
        model = await uow.model(command.project, command.ref)
        refuse_preset(model, "change")
        check_etag("model", command.ref, command.etag, model.version)
        model = replace(model, **command.changes("model."), update_time=now, version=model.version + 1)
        await uow.models.save(model)
        uow.emit(model_event(model, "updated"))
        await uow.commit()
    return model


@retry_conflicts
async def delete_model(project: str, ref: str, context: ServiceContext, now: datetime) -> None:
    """Delete a project's own model with its versions. Raises: NotFound, WrongState."""
    async with context.writing() as uow:
        model = await uow.model(project, ref)
        refuse_preset(model, "delete")
        versions = await uow.versions_in(model.id)
        await refuse_used(uow, "model", model.name, versions, context, now)
        await uow.delete_model(model)
        for version in versions:
            await uow.discard(context.bucket, context.prefix(version))
            uow.emit(version_event(version, version, "deleted"))
        uow.emit(model_event(model, "deleted"))
        await uow.commit()
    for version in versions:
        context.watchers.notify(version.id)
    context.garbage.kick()


async def refuse_used(
    uow: RegistryUnit, kind: str, ref: str, versions: Sequence[ModelVersion], context: ServiceContext, now: datetime
) -> None:
    """Refuse the deletion of versions that are held, or are the base of others. Raises: WrongState."""
    ids = [version.id for version in versions]
    holders = await uow.holds.holders(ids, context.oldest_hold(now))
    adapters = await uow.versions.select(VERSIONS.c.base_id.in_(ids))
    refuse_held(kind, ref, [*holders, *(one.label for one in adapters if one.id not in ids)])


async def install_presets(presets: Sequence[Mapping[str, Any]], context: ServiceContext, now: datetime) -> None:
    """Make the presets of the catalogue that are not there yet, each with its one version; take over new facts."""
    async with context.writing() as uow:
        known = {model.name: model for model in await uow.models.select(MODELS.c.project == PRESETS)}
        for preset in presets:
            name, facts = str(preset["name"]), {fact: preset[fact] for fact in _FACTS}
            facts["languages"] = tuple(preset["languages"])
            if model := known.get(name):
                fresh = replace(model, **facts)
                if fresh != model:
                    await uow.models.save(replace(fresh, update_time=now, version=model.version + 1))
                continue
            model = Model(
                new_id("mdl-"), PRESETS, name, metadata={}, origin=Origin.PRESET, create_time=now, update_time=now,
                last_number=1, **facts,
            )  # fmt: skip
            await uow.models.add(model)
            await uow.versions.add(
                ModelVersion(
                    new_id("mv-"), PRESETS, model.id, name, 1, State.AVAILABLE, Kind.FULL, now,
                    parameter_count=model.parameter_count, context_length=model.context_length,
                    cause="It comes with the installation.",
                )
            )  # fmt: skip
        await uow.commit()
