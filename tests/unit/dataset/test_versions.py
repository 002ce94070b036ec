"""Versions, data sets and files: publish, resolve and hold, change, delete."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.chassis.data import PageQuery
from services.chassis.delivery import Message
from services.chassis.errors import AlreadyExists, Conflict, Invalid, NotFound, WrongState
from services.chassis.events import Event
from services.chassis.names import CreateNamed, UpdateLabels
from services.dataset.domain import State
from services.dataset.handlers import HoldHandlers
from services.dataset.operations import datasets, files, versions
from services.dataset.operations.context import ServiceContext
from services.dataset.operations.holds import resolve_version
from tests.unit.dataset.made import (
    FILE,
    HOLD_SECONDS,
    NOW,
    OTHER,
    PROJECT,
    begin,
    claim,
    discarded,
    end,
    happenings,
    imported,
)

pytestmark = pytest.mark.unit

LATER = NOW + timedelta(seconds=HOLD_SECONDS)


async def publish(context: ServiceContext, version: str = "1") -> State:
    view = await versions.publish_version(PROJECT, "tickets", version, ("", ""), context, NOW)
    return view.resource.state


async def hear(context: ServiceContext, event: Event) -> None:
    await HoldHandlers(context).handle(Message(event.subject, event.body().encode(), {}, event.id))


async def test_a_draft_is_published_on_request_and_once(context: ServiceContext) -> None:
    version = await imported(context, draft=True)
    assert version.state is State.READY
    assert await publish(context) is State.PUBLISHED
    assert await publish(context) is State.PUBLISHED
    assert await happenings(context, version.id) == ["created", "ready", "published"]
    assert (await datasets.get_dataset(PROJECT, "tickets", context)).latest_version == 1


async def test_a_version_that_is_importing_is_not_published(context: ServiceContext) -> None:
    await begin(context)
    with pytest.raises(WrongState) as caught:
        await publish(context)
    assert (caught.value.metadata["state"], caught.value.metadata["allowed_states"]) == ("IMPORTING", "READY")


async def test_a_reference_means_a_published_version(context: ServiceContext) -> None:
    draft = await imported(context, draft=True)
    for reference, reason in (("tickets", "NOT_PUBLISHED"), ("tickets@1", "NOT_PUBLISHED")):
        with pytest.raises(WrongState) as caught:
            await resolve_version(PROJECT, reference, "", context, NOW)
        assert caught.value.reason == reason
    second = await imported(context)
    await begin(context)
    for reference in ("tickets", "tickets@latest", "tickets@2", second.id):
        assert (await resolve_version(PROJECT, reference, "", context, NOW)) == second
    for reference in ("none", "tickets@9", "dsv-none"):
        with pytest.raises(NotFound):
            await resolve_version(PROJECT, reference, "", context, NOW)
    with pytest.raises(NotFound):
        await resolve_version(OTHER, second.id, "", context, NOW)
    with pytest.raises(Invalid):
        await resolve_version(PROJECT, "tickets@live", "", context, NOW)
    assert draft.number == 1


async def test_a_held_version_is_not_deleted_nor_its_data_set(context: ServiceContext) -> None:
    await imported(context)
    await resolve_version(PROJECT, "tickets", "ftjob-1", context, NOW)
    with pytest.raises(WrongState) as caught:
        await versions.delete_version(PROJECT, "tickets", "1", context, NOW)
    assert (caught.value.reason, caught.value.metadata["holders"]) == ("IN_USE", "ftjob-1")
    with pytest.raises(WrongState):
        await datasets.delete_dataset(PROJECT, "tickets", context, NOW)
    assert await discarded(context) == []
    await versions.delete_version(PROJECT, "tickets", "1", context, LATER)  # nobody confirmed the hold


async def test_events_of_a_user_confirm_its_holds_and_the_last_one_lets_go(context: ServiceContext) -> None:
    await imported(context)
    await resolve_version(PROJECT, "tickets", "ftjob-1", context, NOW)
    await hear(context, Event(PROJECT, "job", "ftjob-1", "created", "QUEUED"))
    with pytest.raises(WrongState):
        await versions.delete_version(PROJECT, "tickets", "1", context, LATER)
    await hear(context, Event(PROJECT, "job", "ftjob-1", "failed", "FAILED", terminal=True))
    await versions.delete_version(PROJECT, "tickets", "1", context, LATER)


async def test_a_deleted_version_leaves_its_files_to_be_deleted_and_its_number_unused(context: ServiceContext) -> None:
    first, second = await imported(context), await imported(context)
    await versions.delete_version(PROJECT, "tickets", "latest", context, NOW)
    assert await discarded(context) == [f"datasets/{PROJECT}/{second.id}"]
    assert (await happenings(context, second.id))[-1] == "deleted"
    assert await resolve_version(PROJECT, "tickets", "", context, NOW) == first
    assert (await begin(context)).resource.number == 3


async def test_a_deleted_data_set_goes_with_all_its_versions(context: ServiceContext) -> None:
    made = [await imported(context), (await begin(context)).resource]
    await datasets.delete_dataset(PROJECT, "tickets", context, NOW)
    assert await discarded(context) == sorted(f"datasets/{PROJECT}/{version.id}" for version in made)
    for resource_id in (*(version.id for version in made), made[0].dataset_id):
        assert (await happenings(context, resource_id))[-1] == "deleted"
    with pytest.raises(NotFound):
        await datasets.get_dataset(PROJECT, "tickets", context)


async def test_a_watcher_sees_a_version_until_it_is_published(context: ServiceContext) -> None:
    view = await begin(context)
    seen = []
    async for shown in versions.watch_version(PROJECT, "tickets", "1", 0, context):
        if not seen:
            await end(context, view, await claim(context, view))
        seen.append(shown.resource.state)
    assert seen == [State.IMPORTING, State.READY, State.PUBLISHED]


async def test_rows_of_a_version_without_any_are_not_previewed(context: ServiceContext) -> None:
    await begin(context)
    with pytest.raises(WrongState) as caught:
        await versions.preview_version(PROJECT, "tickets", "1", 0, "", context)
    assert caught.value.metadata["state"] == "IMPORTING"
    for size, token in ((101, ""), (-1, ""), (0, "nonsense")):
        with pytest.raises(Invalid):
            await versions.preview_version(PROJECT, "tickets", "1", size, token, context)


async def test_a_data_set_is_made_once_by_name_or_request_and_changed_under_its_etag(context: ServiceContext) -> None:
    wish = CreateNamed(PROJECT, "tickets", "Tickets", {"team": "help"}, "r-1", "digest")
    made = (await datasets.create_dataset(wish, context, NOW)).dataset
    assert (await datasets.create_dataset(wish, context, LATER)).dataset == made
    with pytest.raises(AlreadyExists):
        await datasets.create_dataset(CreateNamed(PROJECT, "tickets", "", {}, "", ""), context, NOW)
    change = UpdateLabels(PROJECT, "tickets", "Renamed", None, str(made.version))
    changed = (await datasets.update_dataset(change, context, LATER)).dataset
    assert (changed.title, changed.metadata, changed.update_time) == ("Renamed", {"team": "help"}, LATER)
    with pytest.raises(Conflict):
        await datasets.update_dataset(change, context, LATER)
    assert await happenings(context, made.id) == ["created", "updated"]
    assert not (await datasets.list_datasets(OTHER, PageQuery(), context)).items


async def test_a_file_that_is_being_imported_is_not_deleted(context: ServiceContext) -> None:
    view = await begin(context)
    with pytest.raises(WrongState) as caught:
        await files.delete_file(PROJECT, FILE.id, context)
    assert caught.value.metadata["holders"] == "tickets@1"
    await end(context, view, await claim(context, view))
    with pytest.raises(NotFound):
        await files.delete_file(OTHER, FILE.id, context)
    await files.delete_file(PROJECT, FILE.id, context)
    assert await discarded(context) == [f"files/{PROJECT}/{FILE.id}"]
    assert await happenings(context, FILE.id) == ["deleted"]
