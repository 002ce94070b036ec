"""An import from its wish to its outcome: tokens, broken attempts, refused rows, and what is left behind."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from services.chassis.errors import AlreadyExists, Invalid, NotFound
from services.chassis.transitions import FailureKind
from services.dataset.domain import BadRowPolicy, Source, State
from services.dataset.import_work import ImportCounts, ImportReport
from services.dataset.operations import datasets, imports, versions
from services.dataset.operations.context import ServiceContext
from services.dataset.operations.imports import Ending
from tests.unit.dataset.made import (
    NOW,
    OTHER,
    PROJECT,
    REFUSED,
    REPORT,
    a_wish,
    begin,
    claim,
    discarded,
    end,
    happenings,
    imported,
    now_of,
)

pytestmark = pytest.mark.unit

NOTHING = ImportReport(ImportCounts())


async def test_a_wish_makes_the_data_set_and_a_version_that_waits(context: ServiceContext) -> None:
    view = await begin(context)
    version = view.resource
    assert (version.state, version.number, version.dataset_name) == (State.IMPORTING, 1, "tickets")
    assert context.wake.is_set()
    assert [one.version for one in await imports.list_waiting(context)] == [version]
    assert await happenings(context, version.dataset_id) == ["created"]
    assert await happenings(context, version.id) == ["created"]
    assert (await begin(context)).resource.number == 2


async def test_a_wish_that_cannot_be_met_writes_nothing(context: ServiceContext) -> None:
    with pytest.raises(NotFound) as caught:
        await versions.create_version(a_wish(), context, NOW)
    assert caught.value.metadata["field"] == "dataset_version.file_id"
    for wrong in (a_wish(columns={"nothing": "x"}), a_wish(source=Source()), a_wish(max_bad_rows=1)):
        with pytest.raises(Invalid):
            await versions.create_version(wrong, context, NOW)
    with pytest.raises(NotFound, match="dataset 'tickets'"):
        await versions.create_version(a_wish(create_dataset=False), context, NOW)
    with pytest.raises(NotFound):
        await datasets.get_dataset(PROJECT, "tickets", context)


async def test_a_file_of_another_project_is_not_found(context: ServiceContext) -> None:
    await begin(context)
    with pytest.raises(NotFound, match="file-1"):
        await versions.create_version(a_wish(project=OTHER), context, NOW)


async def test_a_repeated_wish_gives_the_first_version(context: ServiceContext) -> None:
    first = await begin(context, request_id="r-1")
    assert await begin(context, request_id="r-1") == first
    with pytest.raises(AlreadyExists) as caught:
        await begin(context, request_id="r-1", digest="other")
    assert caught.value.reason == "REQUEST_ID_REUSED"


async def test_a_good_import_is_published_by_itself(context: ServiceContext) -> None:
    version = await imported(context)
    assert (version.state, version.cause) == (
        State.PUBLISHED,
        "Imported 3 rows as ALPACA. Published by itself: no row was refused.",
    )
    assert version.output is not None
    assert (version.output.row_count, version.output.files.prefix) == (3, f"datasets/{PROJECT}/{version.id}/1")
    assert await happenings(context, version.id) == ["created", "ready", "published"]
    assert await imports.list_waiting(context) == []
    assert await discarded(context) == []


async def test_an_import_with_refused_rows_is_ready_and_reports_them(context: ServiceContext) -> None:
    view = await begin(context, policy=BadRowPolicy.SKIP, max_bad_rows=5)
    report = replace(REPORT, counts=ImportCounts(2, 1, 9, 9), errors=REFUSED)
    assert await end(context, view, await claim(context, view), report=report)
    version = await now_of(context, view.resource)
    assert (version.state, version.bad_row_count) == (State.READY, 1)
    page = await versions.list_row_errors(PROJECT, "tickets", "1", 0, "", context)
    assert (page.total_count, page.next_page_token) == (1, "")
    assert [(row.line, row.code, row.source) for row in page.rows] == [(2, "EMPTY_FIELD", "tickets.jsonl")]


async def test_a_refused_import_fails_with_its_words_and_leaves_no_rows(context: ServiceContext) -> None:
    view = await begin(context)
    work = await claim(context, view)
    report = replace(NOTHING, counts=ImportCounts(2, 1, 9, 9), errors=REFUSED)
    assert await end(context, view, work, Ending.REFUSED, report)
    version = await now_of(context, view.resource)
    assert (version.state, version.cause, version.bad_row_count) == (State.FAILED, "Something was wrong.", 1)
    assert version.failure is not None and version.failure.kind is FailureKind.USER
    assert await discarded(context) == [f"datasets/{PROJECT}/{version.id}/1"]
    assert len((await versions.list_row_errors(PROJECT, "tickets", "1", 0, "", context)).rows) == 1


@pytest.mark.parametrize(("ending", "tries"), [(Ending.CRASHED, imports.MAX_CRASHES), (Ending.FAILED, 10)])
async def test_an_import_that_breaks_off_is_tried_again_later_and_not_without_end(
    context: ServiceContext, ending: Ending, tries: int
) -> None:
    view = await begin(context)
    delays = []
    for _ in range(tries - 1):
        assert not await end(context, view, await claim(context, view), ending, NOTHING)
        (waiting,) = await imports.list_waiting(context)
        assert waiting.work.retry_time is not None and not waiting.work.owner
        delays.append((waiting.work.retry_time - NOW) / timedelta(seconds=1))
    assert delays == [min(2.0**count, 60) for count in range(tries - 1)]
    assert await end(context, view, await claim(context, view), ending, NOTHING)
    version = await now_of(context, view.resource)
    assert version.state is State.FAILED
    assert version.failure is not None and version.failure.kind is FailureKind.SYSTEM
    assert (
        version.failure.message == f"The import broke off {tries} times in a row. The last time: Something was wrong."
    )


async def test_only_the_last_attempt_may_say_how_it_ended(context: ServiceContext) -> None:
    view = await begin(context)
    first = await claim(context, view)
    second = await claim(context, view, "owner-2")
    assert (first.token, second.token) == (1, 2)
    assert not await imports.note_progress(view.resource, first, context)
    assert not await end(context, view, first)
    assert (await now_of(context, view.resource)).state is State.IMPORTING
    assert await imports.note_progress(view.resource, second, context)
    assert await end(context, view, second)
    version = await now_of(context, view.resource)
    assert version.output is not None and version.output.files.prefix.endswith("/2")
    assert await discarded(context) == [f"datasets/{PROJECT}/{version.id}/1"]


async def test_an_outcome_that_is_applied_twice_leaves_the_rows_where_they_are(context: ServiceContext) -> None:
    view = await begin(context)
    work = await claim(context, view)
    assert await end(context, view, work)
    before = await now_of(context, view.resource)
    await end(context, view, work)  # as after a commit whose answer was lost
    assert await now_of(context, view.resource) == before
    assert await discarded(context) == []


async def test_an_import_is_claimed_by_one_and_given_back(context: ServiceContext) -> None:
    view = await begin(context)
    (waiting,) = await imports.list_waiting(context)
    work = await imports.claim_import(waiting, "owner-1", context)
    assert work is not None
    assert await imports.claim_import(waiting, "owner-2", context) is None
    await imports.give_back(view.resource, work, context, NOW)
    (again,) = await imports.list_waiting(context)
    assert (again.work.owner, again.work.retry_time, again.work.token) == ("", NOW, 1)


async def test_progress_is_shown_and_begins_anew_with_the_next_attempt(context: ServiceContext) -> None:
    view = await begin(context)
    work = replace(await claim(context, view), row_count=5, bad_row_count=1, bytes_read=50, bytes_total=100)
    assert await imports.note_progress(view.resource, work, context)
    shown = (await versions.get_version(PROJECT, "tickets", "1", context)).work
    assert shown is not None and (shown.row_count, shown.bad_row_count, shown.bytes_read) == (5, 1, 50)
    assert (await claim(context, view)).row_count == 0


async def test_what_is_imported_after_its_deletion_is_deleted_too(context: ServiceContext) -> None:
    view = await begin(context)
    work = await claim(context, view)
    await versions.delete_version(PROJECT, "tickets", "1", context, NOW)
    assert not await imports.note_progress(view.resource, work, context)
    assert not await end(context, view, work)
    assert await imports.list_waiting(context) == []
    folder = f"datasets/{PROJECT}/{view.resource.id}"
    assert await discarded(context) == [folder, f"{folder}/1"]
    with pytest.raises(NotFound):
        await now_of(context, view.resource)
