"""Versions on their way to READY: imports and presets, done, failed, repeated, and deleted meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from services.chassis.data import PageQuery
from services.chassis.errors import AlreadyExists, Invalid, NotFound, WrongState
from services.chassis.locations import ObjectLocation
from services.chassis.transitions import Failure, FailureKind
from services.registry.domain import State
from services.registry.operations import models, versions
from services.registry.operations.context import ServiceContext
from tests.unit.registry.made import (
    MANIFEST,
    NOW,
    OTHER,
    PROJECT,
    complete,
    create_model,
    discarded,
    happenings,
    import_version,
    prepared,
    preset,
    ready_model,
)

pytestmark = pytest.mark.unit

BROKEN = Failure("INVALID_MODEL", "There is no config.json.", FailureKind.USER)


async def test_an_import_begins_in_preparing_and_wakes_the_preparer(context: ServiceContext) -> None:
    await create_model(context, "own")
    version = await import_version(context)
    assert (version.state, version.number, version.label) == (State.PREPARING, 1, "own@1")
    assert context.wake.is_set()
    async with context.reading() as uow:
        assert await uow.preparing() == [version]
    assert await happenings(context, version.id) == ["modelVersion.created"]


async def test_each_import_of_a_model_gets_the_next_number(context: ServiceContext) -> None:
    await create_model(context, "own")
    assert [(await import_version(context)).number for _ in range(3)] == [1, 2, 3]


async def test_a_repeated_import_request_gives_the_first_version(context: ServiceContext) -> None:
    await create_model(context, "own")
    first = await import_version(context, request_id="r-1")
    assert await import_version(context, request_id="r-1") == first
    other = versions.CreateVersion(PROJECT, "own", ObjectLocation("", "", "elsewhere"), {}, "r-1", "another digest")
    with pytest.raises(AlreadyExists, match="request id"):
        await versions.create_version(other, context, NOW)


@pytest.mark.parametrize(
    ("source", "field"),
    [
        (ObjectLocation("", "", ""), "model_version.source.prefix"),
        (ObjectLocation("", "", "/own"), "model_version.source.prefix"),
        (ObjectLocation("", "another-bucket", "own"), "model_version.source.bucket"),
    ],
)
async def test_an_import_from_an_impossible_place_is_refused_at_its_field(
    context: ServiceContext, source: ObjectLocation, field: str
) -> None:
    await create_model(context, "own")
    with pytest.raises(Invalid) as caught:
        await versions.create_version(versions.CreateVersion(PROJECT, "own", source, {}, "", ""), context, NOW)
    assert caught.value.field == field
    assert (await models.get_model(PROJECT, "own", context)).last_number == 0


async def test_a_preset_takes_no_imports_and_another_project_sees_no_model(context: ServiceContext) -> None:
    with pytest.raises(WrongState, match="preset"):
        await import_version(context, "small")
    await create_model(context, "own")
    with pytest.raises(NotFound):
        await import_version(context, "own", OTHER)


async def test_a_completed_import_is_ready_with_its_files_and_facts(context: ServiceContext) -> None:
    version = await ready_model(context)
    assert (version.state, version.cause, version.finish_time) == (State.READY, "Checked and stored.", NOW)
    assert version.files is not None
    assert (version.files.digest, version.files.size_bytes) == (MANIFEST.digest, MANIFEST.size_bytes)
    assert version.files.stored.prefix == f"models/{PROJECT}/{version.id}/weights"
    model = await models.get_model(PROJECT, "own", context)
    assert (model.latest_version, model.parameter_count, model.context_length) == (1, 2000, 128)
    assert await happenings(context, version.id) == ["modelVersion.created", "modelVersion.ready"]


async def test_an_older_version_that_is_done_later_does_not_become_the_latest(context: ServiceContext) -> None:
    await create_model(context, "own")
    older, newer = await import_version(context), await import_version(context)
    await complete(context, newer)
    await complete(context, older)
    assert (await versions.get_version(PROJECT, "own", "latest", context)).id == newer.id


async def test_a_version_is_completed_once(context: ServiceContext) -> None:
    version = await ready_model(context)
    assert await versions.complete(version, prepared(context, version), context, NOW) is None
    assert (await happenings(context, version.id)).count("modelVersion.ready") == 1


async def test_what_is_completed_after_its_deletion_is_deleted_too(context: ServiceContext) -> None:
    await create_model(context, "own")
    version = await import_version(context)
    await versions.delete_version(PROJECT, "own", "1", context, NOW)
    assert await versions.complete(version, prepared(context, version), context, NOW) is None
    assert await versions.fail(version.id, BROKEN, context, NOW) is None
    assert await versions.note_attempt(version.id, context) is None
    assert await discarded(context) == [f"models/{PROJECT}/{version.id}"]
    with pytest.raises(NotFound):
        await versions.get_version(PROJECT, "own", "1", context)


async def test_a_failed_import_has_failed_for_good(context: ServiceContext) -> None:
    await create_model(context, "own")
    version = await import_version(context)
    after = await versions.fail(version.id, BROKEN, context, NOW)
    assert after is not None
    assert (after.state, after.failure, after.cause) == (State.FAILED, BROKEN, "There is no config.json.")
    assert await versions.complete(version, prepared(context, version), context, NOW) is None
    assert (await versions.prepare_version(version.id, context, NOW)).state is State.FAILED
    assert await happenings(context, version.id) == ["modelVersion.created", "modelVersion.failed"]


async def test_attempts_are_counted_while_there_is_something_to_prepare(context: ServiceContext) -> None:
    await create_model(context, "own")
    version = await import_version(context)
    counted = [await versions.note_attempt(version.id, context) for _ in range(2)]
    assert [one.attempts for one in counted if one is not None] == [1, 2]
    await complete(context, version)
    assert await versions.note_attempt(version.id, context) is None


async def test_a_preset_is_prepared_at_its_first_use_and_once(context: ServiceContext) -> None:
    waiting = await preset(context)
    assert waiting.state is State.AVAILABLE
    begun = await versions.prepare_version(waiting.id, context, NOW)
    assert begun.state is State.PREPARING and context.wake.is_set()
    context.wake.clear()
    assert await versions.prepare_version(waiting.id, context, NOW) == begun
    assert not context.wake.is_set()
    done = await complete(context, begun)
    assert await versions.prepare_version(waiting.id, context, NOW) == done
    assert await happenings(context, waiting.id) == ["modelVersion.preparing", "modelVersion.ready"]


async def test_a_preset_that_failed_is_available_again_and_its_next_preparation_starts_anew(
    context: ServiceContext,
) -> None:
    begun = await versions.prepare_version((await preset(context)).id, context, NOW)
    await versions.note_attempt(begun.id, context)
    failed = await versions.fail(begun.id, BROKEN, context, NOW)
    assert failed is not None
    assert (failed.state, failed.failure, failed.attempts, failed.finish_time) == (State.AVAILABLE, BROKEN, 1, None)
    again = await versions.prepare_version(begun.id, context, NOW)
    assert (again.state, again.failure, again.attempts) == (State.PREPARING, None, 0)
    assert (await complete(context, again)).state is State.READY
    words = ["preparing", "available", "preparing", "ready"]
    assert await happenings(context, begun.id) == [f"modelVersion.{word}" for word in words]


async def test_a_version_that_does_not_exist_is_not_prepared(context: ServiceContext) -> None:
    with pytest.raises(NotFound):
        await versions.prepare_version("mv-none", context, NOW)


async def test_versions_are_found_by_number_id_latest_and_in_lists(context: ServiceContext) -> None:
    version = await ready_model(context)
    for model, text in (("own", "1"), ("own", version.id), ("own", "latest"), ("-", version.id)):
        assert await versions.get_version(PROJECT, model, text, context) == version
    for model in ("own", "-"):
        assert (await versions.list_versions(PROJECT, model, PageQuery(), context)).items == (version,)
    assert (await versions.list_versions(OTHER, "-", PageQuery(), context)).items == ()
    with pytest.raises(Invalid):
        await versions.get_version(PROJECT, "-", "1", context)
    with pytest.raises(NotFound):
        await versions.get_version(OTHER, "-", version.id, context)


async def test_a_watcher_sees_a_version_until_it_is_ready(context: ServiceContext) -> None:
    await create_model(context, "own")
    version = await import_version(context)

    async def watch() -> list[State]:
        return [seen.state async for seen in versions.watch_version(PROJECT, "own", "1", 0, context)]

    async with asyncio.timeout(5):
        watching = asyncio.create_task(watch())
        await asyncio.sleep(0)
        await complete(context, version)
        assert (await watching)[-1] is State.READY


async def test_an_import_with_an_unknown_credential_is_refused_before_anything_is_written(
    context: ServiceContext,
) -> None:
    await create_model(context, "own")
    wish = versions.CreateVersion(PROJECT, "own", ObjectLocation("nobody", "b", "own"), {}, "", "")
    with pytest.raises(NotFound, match="nobody"):
        await versions.create_version(wish, context, NOW)
    assert (await models.get_model(PROJECT, "own", context)).last_number == 0
