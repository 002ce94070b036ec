"""What a model reference means, and what is asked for by resolving it."""

from __future__ import annotations

import pytest

from services.chassis.errors import Invalid, NotFound
from services.chassis.transitions import Failure, FailureKind
from services.registry.domain import ModelVersion, State
from services.registry.operations import aliases, models, versions
from services.registry.operations.context import ServiceContext
from services.registry.operations.versions import resolve_model
from tests.unit.registry.made import (
    NOW,
    OTHER,
    PRESET,
    PROJECT,
    a_publication,
    begin_publication,
    complete,
    create_model,
    import_version,
    preset,
    ready_model,
)

pytestmark = pytest.mark.unit


async def resolve(context: ServiceContext, reference: str, project: str = PROJECT, holder: str = "") -> ModelVersion:
    return (await resolve_model(project, reference, holder, context, NOW)).version


async def test_a_reference_means_a_number_an_alias_an_id_or_the_newest_ready_version(context: ServiceContext) -> None:
    first = await ready_model(context)
    second = await complete(context, await import_version(context))
    third = await import_version(context)
    await aliases.set_alias(PROJECT, "own", "live", "1", "key-1", context, NOW)
    meant = {"own@1": first, "own@live": first, "own": second, "own@latest": second, "own@3": third, third.id: third}
    assert {reference: (await resolve(context, reference)).id for reference in meant} == {
        reference: version.id for reference, version in meant.items()
    }


async def test_a_model_without_a_ready_version_means_its_newest_one(context: ServiceContext) -> None:
    await create_model(context, "own")
    with pytest.raises(NotFound):
        await resolve(context, "own")
    await import_version(context)
    newest = await import_version(context)
    assert await resolve(context, "own") == newest


async def test_what_nobody_has_or_another_project_has_is_not_found(context: ServiceContext) -> None:
    version = await ready_model(context)
    for reference in ("none", "own@2", "own@live", "mv-none", "ft:own:support:helper:23456789"):
        with pytest.raises(NotFound):
            await resolve(context, reference)
    for reference in ("own", version.id):
        with pytest.raises(NotFound):
            await resolve(context, reference, OTHER)
    for reference in ("", "@1", "own@-"):
        with pytest.raises(Invalid) as caught:
            await resolve(context, reference)
        assert caught.value.field == "reference"


async def test_an_adapter_comes_with_its_base_also_by_its_fine_tuned_name(context: ServiceContext) -> None:
    base = await ready_model(context)
    adapter = await begin_publication(context, a_publication(base))
    for reference in ("helper", adapter.fine_tuned_name):
        found = await resolve_model(PROJECT, reference, "", context, NOW)
        assert (found.version.id, found.base) == (adapter.id, base)
    with pytest.raises(NotFound):
        await resolve(context, adapter.fine_tuned_name, OTHER)


async def test_a_fine_tuned_name_that_was_published_twice_means_the_newer_version(context: ServiceContext) -> None:
    base = await ready_model(context)
    await begin_publication(context, a_publication(base))
    second = await begin_publication(context, a_publication(base, request_id="again"))
    assert (await resolve(context, second.fine_tuned_name)).number == 2


async def test_a_preset_is_found_by_its_name_and_hub_id_in_every_project(context: ServiceContext) -> None:
    version = await preset(context)
    for reference in ("small", "small@1", "maker/Small", version.id):
        for project in (PROJECT, OTHER):
            assert await resolve(context, reference, project) == version


async def test_an_own_model_wins_over_a_preset_that_comes_later(context: ServiceContext) -> None:
    own = await ready_model(context, "large")
    await models.install_presets([PRESET, PRESET | {"name": "large", "hub_id": "maker/Large"}], context, NOW)
    assert await resolve(context, "large") == own
    assert (await resolve(context, "large", OTHER)).project == ""


async def test_a_preset_is_prepared_when_it_is_held_and_not_when_it_is_looked_at(context: ServiceContext) -> None:
    assert (await resolve(context, "small")).state is State.AVAILABLE
    assert not context.wake.is_set()
    assert (await resolve(context, "small", holder="ftjob-1")).state is State.PREPARING
    assert context.wake.is_set()
    assert (await resolve(context, "small", holder="ftjob-2")).state is State.PREPARING


async def test_a_preset_that_failed_is_not_prepared_again_by_a_hold(context: ServiceContext) -> None:
    begun = await resolve(context, "small", holder="ftjob-1")
    await versions.fail(begun.id, Failure("NO_SOURCE", "It is away.", FailureKind.SYSTEM), context, NOW)
    found = await resolve(context, "small", holder="ftjob-1")
    assert found.state is State.AVAILABLE
    assert found.failure is not None and found.failure.message == "It is away."
