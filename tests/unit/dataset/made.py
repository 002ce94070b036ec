"""Files, versions and outcomes of imports as the tests of the dataset service's use cases need them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from services.chassis.data import outbox
from services.dataset.domain import BadRowPolicy, DatasetVersion, Format, Source, StoredFile, VersionView, Work
from services.dataset.import_work import ImportCounts, ImportReport
from services.dataset.operations import imports, versions
from services.dataset.operations.context import ServiceContext
from services.dataset.reading.problems import RowError
from services.dataset.store import GARBAGE

PROJECT, OTHER = "proj-1", "proj-2"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOLD_SECONDS = 60.0
FILE = StoredFile("file-1", PROJECT, "tickets.jsonl", "fine-tune", 9, "ab" * 32, NOW)
REPORT = ImportReport(ImportCounts(3, 0, 9, 9), {"tokens": 12}, (), "ALPACA", "digest-1", {}, {"files": []})
REFUSED = (("tickets.jsonl", RowError(2, "output", "EMPTY_FIELD", "It is empty.")),)


async def add_file(context: ServiceContext, file: StoredFile = FILE) -> None:
    """A file as its upload leaves it."""
    async with context.writing() as uow:
        await uow.files.add(file)
        await uow.commit()


def a_wish(**changes: Any) -> versions.CreateVersion:
    """The wish to import the file into `tickets`, which is made if it is new."""
    wish = versions.CreateVersion(
        project=PROJECT,
        dataset="tickets",
        create_dataset=True,
        source=Source(file_id=FILE.id),
        format=Format.FORMAT_UNSPECIFIED,
        columns={},
        policy=BadRowPolicy.REJECT,
        max_bad_rows=0,
        draft=False,
        metadata={},
        request_id="",
        digest="",
    )
    return replace(wish, **changes)


async def begin(context: ServiceContext, **changes: Any) -> VersionView:
    """A version whose import was asked for."""
    async with context.reading() as uow:
        known = await uow.files.by_id(FILE.id)
    if known is None:
        await add_file(context)
    return await versions.create_version(a_wish(**changes), context, NOW)


async def claim(context: ServiceContext, view: VersionView, owner: str = "owner-1") -> Work:
    """The import, taken over by the next attempt."""
    waiting = next(one for one in await imports.list_waiting(context) if one.version.id == view.resource.id)
    work = await imports.claim_import(waiting, owner, context)
    assert work is not None
    return work


async def end(
    context: ServiceContext,
    view: VersionView,
    work: Work,
    ending: imports.Ending = imports.Ending.FINISHED,
    report: ImportReport = REPORT,
) -> bool:
    """Apply the outcome of an attempt. Returns: whether the import is over."""
    words = ("", "") if ending is imports.Ending.FINISHED else ("SOME_REASON", "Something was wrong.")
    return await imports.apply_outcome(view.resource, work, imports.Outcome(ending, report, *words), context, NOW)


async def imported(context: ServiceContext, **changes: Any) -> DatasetVersion:
    """A version whose import is over."""
    view = await begin(context, **changes)
    assert await end(context, view, await claim(context, view))
    return await now_of(context, view.resource)


async def now_of(context: ServiceContext, version: DatasetVersion) -> DatasetVersion:
    """A version as it is now."""
    return (await versions.get_version(version.project, version.dataset_name, version.id, context)).resource


async def happenings(context: ServiceContext, resource_id: str) -> list[str]:
    """What the events of a resource that wait for the relay say, in order."""
    async with context.reading() as uow:
        rows = await uow.connection.execute(select(outbox.c.subject).order_by(outbox.c.id))
        parts = [subject.split(".") for subject in rows.scalars()]
    return [word for *_, found, word in parts if found == resource_id]


async def discarded(context: ServiceContext) -> list[str]:
    """Folders of the installation's store that are to be deleted."""
    async with context.reading() as uow:
        return sorted((await uow.connection.execute(select(GARBAGE.c.prefix))).scalars())
