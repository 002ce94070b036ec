"""Holds, and the deletion of what is held or is a base."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from services.chassis.delivery import Message
from services.chassis.errors import NotFound, WrongState
from services.chassis.events import Event
from services.chassis.holds import confirm_holds, drop_fallen_holds, release_holds
from services.registry.domain import ModelVersion
from services.registry.handlers import handle
from services.registry.operations import models, versions
from services.registry.operations.context import ServiceContext
from services.registry.operations.versions import resolve_model
from tests.unit.registry.made import (
    HOLD_SECONDS,
    NOW,
    OTHER,
    PROJECT,
    a_publication,
    begin_publication,
    complete,
    create_model,
    discarded,
    happenings,
    import_version,
    ready_model,
)

pytestmark = pytest.mark.unit

JOB = "ftjob-1"
LATER = NOW + timedelta(seconds=HOLD_SECONDS)


async def hold(context: ServiceContext, version: ModelVersion, holder: str = JOB) -> None:
    await resolve_model(PROJECT, version.id, holder, context, NOW)


async def delete(context: ServiceContext, version: ModelVersion, now: datetime = NOW) -> None:
    await versions.delete_version(PROJECT, "-", version.id, context, now)


async def hear(context: ServiceContext, event: Event) -> None:
    await handle(context, Message(event.subject, event.body().encode(), {}, event.id))


async def test_a_held_version_is_not_deleted_nor_its_model_and_the_refusal_names_the_holders(
    context: ServiceContext,
) -> None:
    version = await ready_model(context)
    await hold(context, version)
    await hold(context, version, "eval-1")
    with pytest.raises(WrongState) as caught:
        await delete(context, version)
    assert (caught.value.reason, caught.value.metadata["holders"]) == ("IN_USE", "eval-1,ftjob-1")
    assert caught.value.message == "The model version 'own@1' cannot be deleted: it is used by eval-1, ftjob-1."
    with pytest.raises(WrongState, match="The model 'own' cannot be deleted"):
        await models.delete_model(PROJECT, "own", context, NOW)
    assert await versions.get_version(PROJECT, "own", "1", context) == version
    assert await discarded(context) == []


async def test_a_hold_falls_when_nobody_confirms_it_in_time(context: ServiceContext) -> None:
    version = await ready_model(context)
    await hold(context, version)
    with pytest.raises(WrongState):
        await delete(context, version, LATER - timedelta(seconds=1))
    await drop_fallen_holds(context.writing(), context.oldest_hold(LATER))
    async with context.reading() as uow:
        assert await uow.holds.holders([version.id], datetime.min.replace(tzinfo=NOW.tzinfo)) == []
    await delete(context, version, LATER)


async def test_a_confirmed_hold_lasts_until_it_is_released(context: ServiceContext) -> None:
    version = await ready_model(context)
    await hold(context, version)
    await confirm_holds(context.writing(), PROJECT, JOB)
    await drop_fallen_holds(context.writing(), context.oldest_hold(LATER))
    with pytest.raises(WrongState):
        await delete(context, version, LATER)
    await release_holds(context.writing(), OTHER, JOB)  # another project's word
    with pytest.raises(WrongState):
        await delete(context, version, LATER)
    for _ in range(2):
        await release_holds(context.writing(), PROJECT, JOB)
    await delete(context, version, LATER)


async def test_events_of_a_user_confirm_its_holds_and_the_last_one_lets_go(context: ServiceContext) -> None:
    version = await ready_model(context)
    await hold(context, version)
    await hear(context, Event(PROJECT, "job", JOB, "created", "QUEUED"))
    with pytest.raises(WrongState):
        await delete(context, version, LATER)
    await hear(context, Event(PROJECT, "job", JOB, "succeeded", "SUCCEEDED", terminal=True))
    await delete(context, version, LATER)


async def test_a_repeated_event_is_heard_once(context: ServiceContext) -> None:
    version = await ready_model(context)
    ended = Event(PROJECT, "deployment", "dep-1", "deleted", "STOPPED")
    await hear(context, ended)
    await hold(context, version, "dep-1")
    await hear(context, ended)
    with pytest.raises(WrongState):
        await delete(context, version)


async def test_the_base_of_an_adapter_is_in_use(context: ServiceContext) -> None:
    base = await ready_model(context)
    adapter = await complete(context, await begin_publication(context, a_publication(base)))
    for attempt in (delete(context, base), models.delete_model(PROJECT, "own", context, NOW)):
        with pytest.raises(WrongState) as caught:
            await attempt
        assert caught.value.metadata["holders"] == "helper@1"
    await delete(context, adapter)
    await delete(context, base)


async def test_a_hold_of_an_adapter_holds_its_base(context: ServiceContext) -> None:
    base = await ready_model(context)
    adapter = await complete(context, await begin_publication(context, a_publication(base)))
    await hold(context, adapter, "dep-1")
    async with context.reading() as uow:
        for version in (adapter, base):
            assert await uow.holds.holders([version.id], context.oldest_hold(NOW)) == ["dep-1"]


async def test_a_deleted_version_leaves_its_files_to_be_deleted_and_the_latest_to_the_one_before(
    context: ServiceContext,
) -> None:
    first = await ready_model(context)
    second = await complete(context, await import_version(context))
    await import_version(context)
    await delete(context, second)
    assert await discarded(context) == [f"models/{PROJECT}/{second.id}"]
    assert await happenings(context, second.id) == [
        "modelVersion.created",
        "modelVersion.ready",
        "modelVersion.deleted",
    ]
    assert (await versions.get_version(PROJECT, "own", "latest", context)).id == first.id
    await delete(context, first)
    model = await models.get_model(PROJECT, "own", context)
    assert (model.latest_version, model.last_number) == (0, 3)
    assert (await import_version(context)).number == 4
    with pytest.raises(NotFound):
        await delete(context, second)


async def test_a_deleted_model_goes_with_all_its_versions(context: ServiceContext) -> None:
    first = await ready_model(context)
    second = await import_version(context)
    await models.delete_model(PROJECT, "own", context, NOW)
    assert await discarded(context) == sorted(f"models/{PROJECT}/{version.id}" for version in (first, second))
    assert (await happenings(context))[-3:] == ["modelVersion.deleted", "modelVersion.deleted", "model.deleted"]
    for version in (first, second):
        with pytest.raises(NotFound):
            await versions.get_version(PROJECT, "-", version.id, context)
    await create_model(context, "own")
    assert (await import_version(context)).number == 1


async def test_a_preset_is_not_deleted(context: ServiceContext) -> None:
    with pytest.raises(WrongState, match="preset"):
        await models.delete_model(PROJECT, "small", context, NOW)
    with pytest.raises(WrongState, match="preset"):
        await versions.delete_version(PROJECT, "small", "1", context, NOW)


async def test_another_project_deletes_nothing(context: ServiceContext) -> None:
    version = await ready_model(context)
    with pytest.raises(NotFound):
        await versions.delete_version(OTHER, "-", version.id, context, NOW)
    with pytest.raises(NotFound):
        await models.delete_model(OTHER, "own", context, NOW)
