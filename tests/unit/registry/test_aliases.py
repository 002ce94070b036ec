"""Aliases: set, moved, deleted, and what they refuse."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.chassis.data import PageQuery
from services.chassis.errors import Invalid, NotFound, WrongState
from services.registry.domain import MAX_HISTORY, Alias
from services.registry.operations import aliases, models, versions
from services.registry.operations.context import ServiceContext
from tests.unit.registry.made import (
    NOW,
    OTHER,
    PROJECT,
    complete,
    create_model,
    happenings,
    import_version,
    ready_model,
)

pytestmark = pytest.mark.unit


async def point(context: ServiceContext, version: str, name: str = "live", model: str = "own") -> Alias:
    return await aliases.set_alias(PROJECT, model, name, version, "key-1", context, NOW)


async def test_an_alias_points_at_a_version_and_says_who_set_it(context: ServiceContext) -> None:
    version = await ready_model(context)
    alias = await point(context, "latest")
    assert (alias.target.model_version_id, alias.target.number) == (version.id, 1)
    assert (alias.target.set_by, alias.target.set_time) == ("key-1", NOW)
    assert await aliases.get_alias(PROJECT, "own", "live", context) == alias
    assert (await versions.resolve_model(PROJECT, "own@live", "", context, NOW)).version == version
    assert (await versions.get_version(PROJECT, "own", "live", context)) == version
    assert await happenings(context, alias.id) == ["alias.set"]


async def test_an_alias_moves_and_keeps_its_history_newest_first(context: ServiceContext) -> None:
    first = await ready_model(context)
    second = await complete(context, await import_version(context))
    await point(context, "1")
    later = NOW + timedelta(hours=1)
    moved = await aliases.set_alias(PROJECT, "own", "live", "2", "key-2", context, later)
    assert [target.model_version_id for target in moved.history] == [second.id, first.id]
    assert (moved.target.set_by, moved.target.set_time) == ("key-2", later)
    assert (await versions.resolve_model(PROJECT, "own@live", "", context, NOW)).version == second
    assert await happenings(context, moved.id) == ["alias.set", "alias.set"]


async def test_setting_an_alias_where_it_points_changes_nothing(context: ServiceContext) -> None:
    await ready_model(context)
    alias = await point(context, "1")
    assert await point(context, "latest") == alias
    assert await happenings(context, alias.id) == ["alias.set"]


async def test_the_history_of_an_alias_has_an_end(context: ServiceContext) -> None:
    await ready_model(context)
    await complete(context, await import_version(context))
    for move in range(MAX_HISTORY + 2):
        alias = await point(context, str(1 + move % 2))
    assert len(alias.history) == MAX_HISTORY
    assert alias.target.number == 2


@pytest.mark.parametrize("name", ["latest", "Live", "1", "", "a" * 64, "a.b"])
async def test_what_is_no_alias_is_refused(context: ServiceContext, name: str) -> None:
    await ready_model(context)
    with pytest.raises(Invalid) as caught:
        await point(context, "1", name)
    assert caught.value.field == "alias"


async def test_only_a_ready_version_of_an_own_model_has_aliases(context: ServiceContext) -> None:
    await create_model(context, "own")
    await import_version(context)
    with pytest.raises(WrongState) as caught:
        await point(context, "1")
    assert (caught.value.metadata["state"], caught.value.metadata["allowed_states"]) == ("PREPARING", "READY")
    with pytest.raises(WrongState, match="preset"):
        await point(context, "1", model="small")


async def test_an_alias_does_not_point_at_a_version_of_another_model(context: ServiceContext) -> None:
    await ready_model(context)
    other = await ready_model(context, "other")
    with pytest.raises(NotFound):
        await point(context, other.id)
    with pytest.raises(NotFound):
        await point(context, "2")


async def test_a_deleted_alias_is_gone_with_its_history(context: ServiceContext) -> None:
    await ready_model(context)
    alias = await point(context, "1")
    await aliases.delete_alias(PROJECT, "own", "live", context)
    assert await happenings(context, alias.id) == ["alias.set", "alias.deleted"]
    with pytest.raises(NotFound):
        await aliases.get_alias(PROJECT, "own", "live", context)
    with pytest.raises(NotFound):
        await aliases.delete_alias(PROJECT, "own", "live", context)
    with pytest.raises(NotFound):
        await versions.resolve_model(PROJECT, "own@live", "", context, NOW)
    assert (await point(context, "1")).id != alias.id


async def test_an_alias_of_a_deleted_version_means_nothing_until_it_is_moved(context: ServiceContext) -> None:
    await ready_model(context)
    second = await complete(context, await import_version(context))
    await point(context, "1")
    await versions.delete_version(PROJECT, "own", "1", context, NOW)
    with pytest.raises(NotFound):
        await versions.resolve_model(PROJECT, "own@live", "", context, NOW)
    await point(context, "2")
    assert (await versions.resolve_model(PROJECT, "own@live", "", context, NOW)).version == second


async def test_aliases_are_listed_for_their_model_and_project_and_go_with_the_model(context: ServiceContext) -> None:
    await ready_model(context)
    await ready_model(context, "own", OTHER)
    named = {(await point(context, "1", name)).alias for name in ("live", "next")}
    page = await aliases.list_aliases(PROJECT, "own", PageQuery(), context)
    assert {alias.alias for alias in page.items} == named
    assert not (await aliases.list_aliases(OTHER, "own", PageQuery(), context)).items
    await models.delete_model(PROJECT, "own", context, NOW)
    await create_model(context, "own")
    assert not (await aliases.list_aliases(PROJECT, "own", PageQuery(), context)).items
