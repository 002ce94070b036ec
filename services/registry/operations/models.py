"""Models: make, show, change, delete, and the presets of the installation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from services.chassis.data import Page, PageQuery, check_etag, retry_conflicts
from services.chassis.errors import AlreadyExists
from services.chassis.holds import refuse_held
from services.chassis.ids import new_id
from services.chassis.names import check_labels, check_name
from services.registry.domain import PRESETS, Kind, Model, ModelVersion, Origin, State, refuse_preset
from services.registry.operations.context import Desk, model_event, version_event
from services.registry.store import MODELS, RegistryUnit

ID_PREFIXES = ("mdl-", "mv-")


@dataclass(frozen=True)
class CreateModel:
    """What to make."""

    project: str
    name: str
    title: str
    metadata: Mapping[str, str]
    request_id: str
    digest: str


@dataclass(frozen=True)
class UpdateModel:
    """What to change; None leaves it."""

    project: str
    ref: str
    title: str | None
    metadata: Mapping[str, str] | None
    etag: str


async def refuse_preset_name(uow: RegistryUnit, name: str, field: str) -> None:
    """An own model must not hide a preset. Raises: AlreadyExists."""
    if await uow.models.find(PRESETS, name) is not None:
        raise AlreadyExists(
            f"{name!r} is the name of a preset. Choose another name.", reason="PRESET_NAME", metadata={"field": field}
        )


async def add_model(uow: RegistryUnit, project: str, name: str, origin: Origin, now: datetime, **more: Any) -> Model:
    """Adds a model of a project. Raises: Invalid, AlreadyExists."""
    model = Model(
        more.pop("id", "") or new_id("mdl-"), project, name, more.pop("title", ""), {}, origin, now, now, **more
    )
    await uow.models.add(model)
    uow.emit(model_event(model, "created"))
    return model


async def create_model(desk: Desk, cmd: CreateModel, now: datetime) -> Model:
    """Makes a private model without a version. Raises: Invalid, AlreadyExists."""
    check_name(cmd.name, "model.name", ID_PREFIXES)
    check_labels(cmd.title, cmd.metadata, "model.")
    async with desk.writing() as uow:
        new = new_id("mdl-")
        model_id = await uow.claim_request(cmd.project, "CreateModel", cmd.request_id, cmd.digest, new)
        if model_id != new:
            return await uow.models.get(cmd.project, model_id)
        await refuse_preset_name(uow, cmd.name, "model.name")
        model = Model(new, cmd.project, cmd.name, cmd.title, dict(cmd.metadata), Origin.PRIVATE, now, now)
        await uow.models.add(model)
        uow.emit(model_event(model, "created"))
        await uow.commit()
    return model


async def get_model(desk: Desk, project: str, ref: str) -> Model:
    """One model. Raises: NotFound."""
    async with desk.reading() as uow:
        return await uow.model(project, ref)


async def list_models(desk: Desk, project: str, page: PageQuery) -> Page[Model]:
    """A page of the catalogue, presets included. Raises: Invalid."""
    async with desk.reading() as uow:
        return await uow.models.list(project, page, shared=PRESETS)


@retry_conflicts
async def update_model(desk: Desk, cmd: UpdateModel, now: datetime) -> Model:
    """Changes title or metadata. Raises: NotFound, Invalid, WrongState, Conflict."""
    async with desk.writing() as uow:
        model = await uow.model(cmd.project, cmd.ref)
        refuse_preset(model, "change")
        check_etag("model", cmd.ref, cmd.etag, model.version)
        model = model.change(cmd.title, cmd.metadata, now)
        await uow.models.save(model)
        uow.emit(model_event(model, "updated"))
        await uow.commit()
    return model


@retry_conflicts
async def delete_model(desk: Desk, project: str, ref: str, now: datetime) -> None:
    """Removes an own model with its versions. Raises: NotFound, WrongState."""
    async with desk.writing() as uow:
        model = await uow.model(project, ref)
        refuse_preset(model, "delete")
        versions = await uow.versions_in(model.id)
        await refuse_used(desk, uow, "model", model.name, versions, now)
        await uow.delete_model(model)
        for version in versions:
            await uow.discard(desk.bucket, desk.prefix(version))
            uow.emit(version_event(version, version, "deleted"))
        uow.emit(model_event(model, "deleted"))
        await uow.commit()
    for version in versions:
        desk.watchers.notify(version.id)
    desk.garbage.kick()


async def refuse_used(
    desk: Desk, uow: RegistryUnit, kind: str, ref: str, versions: Sequence[ModelVersion], now: datetime
) -> None:
    """Refuse the deletion of versions that are held, or are the base of others. Raises: WrongState."""
    ids = [version.id for version in versions]
    holders = await uow.holds.holders(ids, desk.oldest_hold(now))
    bases = [adapter.label for adapter in await uow.adapters_of(ids) if adapter.id not in ids]
    refuse_held(kind, ref, [*holders, *bases])


async def install_presets(desk: Desk, presets: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """Makes the presets of the catalogue that are not there yet, each with its one version; takes over new facts."""
    async with desk.writing() as uow:
        known = {model.name: model for model in await uow.models.select(MODELS.c.project == PRESETS)}
        for preset in presets:
            facts: dict[str, Any] = {
                "title": str(preset["title"]),
                "hub_id": str(preset["hub_id"]),
                "languages": tuple(preset["languages"]),
                "license": str(preset["license"]),
                "parameter_count": int(preset["parameter_count"]),
                "context_length": int(preset["context_length"]),
            }
            if model := known.get(preset["name"]):
                fresh = replace(model, **facts)
                if fresh != model:
                    await uow.models.save(replace(fresh, update_time=now, version=model.version + 1))
                continue
            name = str(preset["name"])
            model = Model(
                new_id("mdl-"), PRESETS, name, metadata={}, origin=Origin.PRESET, create_time=now, update_time=now,
                last_number=1, **facts,
            )  # fmt: skip
            await uow.models.add(model)
            await uow.versions.add(
                ModelVersion(
                    new_id("mv-"), PRESETS, model.id, name, 1, State.AVAILABLE, Kind.FULL, now,
                    parameter_count=model.parameter_count, context_length=model.context_length,
                    cause="comes with the installation",
                )
            )  # fmt: skip
        await uow.commit()
