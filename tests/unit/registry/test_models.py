"""Models: made, listed, changed, and the presets of the installation."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.chassis.data import PageQuery
from services.chassis.errors import AlreadyExists, Conflict, Invalid, NotFound, WrongState
from services.chassis.names import CreateNamed, UpdateLabels
from services.registry.domain import Origin, State
from services.registry.operations import models
from services.registry.operations.context import ServiceContext
from tests.unit.registry.made import NOW, OTHER, PRESET, PROJECT, create_model, happenings, preset, ready_model

pytestmark = pytest.mark.unit

LATER = NOW + timedelta(hours=1)


def wish(name: str = "own", request_id: str = "", digest: str = "") -> CreateNamed:
    return CreateNamed(PROJECT, name, "Our own", {"team": "help"}, request_id, digest)


def change(etag: str = "", ref: str = "own", project: str = PROJECT) -> UpdateLabels:
    return UpdateLabels(project, ref, "Renamed", None, etag)


async def test_a_model_is_made_without_a_version_and_found_by_name_and_id(context: ServiceContext) -> None:
    made = await models.create_model(wish(), context, NOW)
    assert (made.origin, made.latest_version, made.title) == (Origin.PRIVATE, 0, "Our own")
    for reference in ("own", made.id):
        assert await models.get_model(PROJECT, reference, context) == made
    assert await happenings(context, made.id) == ["model.created"]
    with pytest.raises(NotFound):
        await models.get_model(OTHER, "own", context)


async def test_a_name_is_given_once_in_a_project_and_never_that_of_a_preset(context: ServiceContext) -> None:
    await create_model(context, "own")
    await create_model(context, "own", OTHER)
    with pytest.raises(AlreadyExists):
        await models.create_model(wish(), context, NOW)
    with pytest.raises(AlreadyExists) as caught:
        await models.create_model(wish("small"), context, NOW)
    assert caught.value.reason == "PRESET_NAME"
    for name in ("mdl-1", "mv-1", ""):
        with pytest.raises(Invalid) as refused:
            await models.create_model(wish(name), context, NOW)
        assert refused.value.field == "model.name"


async def test_a_repeated_request_gives_the_first_model(context: ServiceContext) -> None:
    made = await models.create_model(wish(request_id="r-1"), context, NOW)
    assert await models.create_model(wish(request_id="r-1"), context, LATER) == made
    with pytest.raises(AlreadyExists) as caught:
        await models.create_model(wish("other", "r-1", "other digest"), context, NOW)
    assert caught.value.reason == "REQUEST_ID_REUSED"


async def test_a_change_leaves_what_it_does_not_name_and_needs_the_present_etag(context: ServiceContext) -> None:
    made = await models.create_model(wish(), context, NOW)
    changed = await models.update_model(change(str(made.version)), context, LATER)
    assert (changed.title, changed.metadata, changed.update_time) == ("Renamed", {"team": "help"}, LATER)
    with pytest.raises(Conflict):
        await models.update_model(change(str(made.version)), context, LATER)
    assert await happenings(context, made.id) == ["model.created", "model.updated"]
    with pytest.raises(WrongState, match="preset"):
        await models.update_model(change(ref="small"), context, LATER)
    with pytest.raises(NotFound):
        await models.update_model(change(project=OTHER), context, LATER)


async def test_the_catalogue_of_a_project_has_its_models_and_the_presets(context: ServiceContext) -> None:
    await create_model(context, "own")
    for project, names in ((PROJECT, {"own", "small"}), (OTHER, {"small"})):
        page = await models.list_models(project, PageQuery(), context)
        assert {model.name for model in page.items} == names


async def test_presets_are_installed_once_and_take_over_new_facts(context: ServiceContext) -> None:
    before, version = await models.get_model(PROJECT, "small", context), await preset(context)
    assert (before.origin, version.state) == (Origin.PRESET, State.AVAILABLE)
    await models.install_presets([PRESET], context, LATER)
    assert await models.get_model(PROJECT, "small", context) == before
    await models.install_presets([PRESET | {"title": "Smaller"}], context, LATER)
    after = await models.get_model(PROJECT, "small", context)
    assert (after.id, after.title, after.version) == (before.id, "Smaller", before.version + 1)
    assert await preset(context) == version


async def test_an_imported_version_gives_its_facts_to_its_model(context: ServiceContext) -> None:
    await ready_model(context)
    model = await models.get_model(PROJECT, "own", context)
    assert (model.latest_version, model.last_number, model.parameter_count) == (1, 1, 2000)
