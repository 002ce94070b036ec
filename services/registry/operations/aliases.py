"""Aliases of a model, with their history."""

from datetime import datetime

from services.chassis.data import Page, PageQuery, retry_conflicts
from services.chassis.errors import Invalid, WrongState
from services.chassis.events import Event
from services.chassis.ids import new_id
from services.registry.domain import ALIAS, Alias, AliasTarget, State, refuse_preset
from services.registry.operations.context import ServiceContext
from services.registry.operations.versions import find_version

RESERVED = ("latest",)


@retry_conflicts
async def set_alias(
    project: str, model_ref: str, name: str, version_ref: str, key_id: str, context: ServiceContext, now: datetime
) -> Alias:
    """Point an alias at a version from now on. Raises: NotFound, Invalid, WrongState."""
    if not ALIAS.fullmatch(name) or name in RESERVED:
        raise Invalid(f"{name!r} is no alias: a letter, then up to 62 of a-z, 0-9 and '-'.", field="alias")
    async with context.writing() as uow:
        model = await uow.model(project, model_ref)
        refuse_preset(model, "set an alias of")
        version = await find_version(uow, project, model_ref, version_ref)
        if version.state is not State.READY:
            raise WrongState.of("model version", version.label, "point at", version.state.name, ["READY"])
        target = AliasTarget(version.id, version.number, now, key_id)
        known = await uow.find_alias(model.id, name)
        alias = known.point(target) if known else Alias(new_id("alias-"), project, model.id, name, (target,), now)
        if alias != known:
            await (uow.aliases.save(alias) if known else uow.aliases.add(alias))
            uow.emit(_event(alias, "set"))
            await uow.commit()
    return alias


async def get_alias(project: str, model_ref: str, name: str, context: ServiceContext) -> Alias:
    """Return one alias. Raises: NotFound."""
    async with context.reading() as uow:
        return await uow.alias((await uow.model(project, model_ref)).id, name)


async def list_aliases(project: str, model_ref: str, page: PageQuery, context: ServiceContext) -> Page[Alias]:
    """Return a page of a model's aliases. Raises: NotFound, Invalid."""
    async with context.reading() as uow:
        model = await uow.model(project, model_ref)
        return await uow.aliases.list(project, page, model_id=model.id)


@retry_conflicts
async def delete_alias(project: str, model_ref: str, name: str, context: ServiceContext) -> None:
    """Delete an alias with its history. Raises: NotFound."""
    async with context.writing() as uow:
        alias = await uow.alias((await uow.model(project, model_ref)).id, name)
        await uow.aliases.delete(alias)
        uow.emit(_event(alias, "deleted"))
        await uow.commit()


def _event(alias: Alias, happening: str) -> Event:
    links = {"model": alias.model_id, "model_version": alias.target.model_version_id}
    version = alias.version + (happening == "deleted")
    return Event(alias.project, "alias", alias.id, happening, "", version=version, links=links)
