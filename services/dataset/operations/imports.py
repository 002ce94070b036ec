"""The three short transactions of an import: claim, note progress, apply the outcome. The work lies between them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Any

from services.chassis.launch import ProgramResult
from services.chassis.locations import StoredFiles
from services.chassis.transitions import Failure, FailureKind
from services.dataset.domain import (
    FAIL,
    DatasetVersion,
    Format,
    Output,
    RefusedRow,
    State,
    VersionView,
    Work,
)
from services.dataset.import_work import CRASHED, ImportCounts, ImportReport
from services.dataset.operations.context import ServiceContext, version_event

MAX_CRASHES = 3
"""Attempts whose program ends without a word before the version fails."""

MAX_OUTAGES = 10
"""Attempts that break because a store stays away before the version fails."""

_LONGEST_DELAY_SECONDS = 60.0


@dataclass(frozen=True)
class Waiting:
    """An import to be done, and who had claimed it."""

    version: DatasetVersion
    work: Work


class Ending(StrEnum):
    """How an attempt ended."""

    FINISHED = "finished"
    REFUSED = "refused"
    """The data or its place are wrong: the user can mend it."""
    FAILED = "failed"
    """A part of the installation was away."""
    CRASHED = "crashed"
    """The program broke off."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended, why if it did not finish, and what its program found out."""

    ending: Ending
    report: ImportReport
    reason: str = ""
    message: str = ""

    @classmethod
    def of(cls, result: ProgramResult) -> Outcome:
        """Return the outcome that an import program wrote."""
        report = ImportReport.from_json(result.result) if result.result else ImportReport(ImportCounts())
        if result.ok:
            return cls(Ending.FINISHED, report)
        failed = Ending.CRASHED if result.reason == CRASHED else Ending.FAILED
        return cls(Ending.REFUSED if result.user else failed, report, result.reason, result.message)


async def list_waiting(context: ServiceContext) -> list[Waiting]:
    """Return all imports that are not over."""
    async with context.reading() as uow:
        versions = await uow.importing()
        work = await uow.work_of([version.id for version in versions])
    return [Waiting(version, work[version.id]) for version in versions if version.id in work]


async def claim_import(waiting: Waiting, owner: str, context: ServiceContext) -> Work | None:
    """Take an import over, with the next token; None when somebody was faster or it is gone."""
    work = waiting.work
    changes: dict[str, Any] = {"token": work.token + 1, "owner": owner, "beat": work.beat + 1}
    changes |= {"row_count": 0, "bad_row_count": 0, "bytes_read": 0}
    async with context.writing() as uow:
        current = await uow.versions.by_id(work.version_id)
        if current is None or not await uow.change_work(work.version_id, work.token, **changes):
            return None
        if work.token:  # what the attempt before left behind
            await uow.discard(context.sources.bucket, context.version_prefix(waiting.version, work.token))
        await uow.commit()
    context.garbage.kick()
    return replace(work, **changes)


async def note_progress(version: DatasetVersion, work: Work, context: ServiceContext) -> bool:
    """Write how far an import is; False: it is somebody else's, or gone, and must stop."""
    async with context.writing() as uow:
        same = await uow.change_work(
            version.id,
            work.token,
            beat=work.beat,
            row_count=work.row_count,
            bad_row_count=work.bad_row_count,
            bytes_read=work.bytes_read,
            bytes_total=work.bytes_total,
        )
        await uow.commit()
    if same:
        context.watchers.notify(version.id)
    return same


async def give_back(
    version: DatasetVersion, work: Work, context: ServiceContext, retry_time: datetime | None = None
) -> None:
    """Let an import go, so that the next process takes it at once, or any one at the given time."""
    async with context.writing() as uow:
        await uow.change_work(version.id, work.token, owner="", retry_time=retry_time)
        await uow.commit()


async def apply_outcome(
    version: DatasetVersion, work: Work, outcome: Outcome, context: ServiceContext, now: datetime
) -> bool:
    """Make the outcome of an attempt true, unless the token is no longer the last one.

    Returns: whether the import is over; False: it is tried again, or was somebody else's.
    """
    report = outcome.report
    if outcome.ending is Ending.FINISHED:
        return await _end(version, work, report, _output(version, work, report, context), None, context, now)
    if outcome.ending is Ending.REFUSED:
        failure = Failure(outcome.reason, outcome.message, FailureKind.USER)
        return await _end(version, work, report, None, failure, context, now)
    tries = work.failures + 1
    if tries < (MAX_OUTAGES if outcome.ending is Ending.FAILED else MAX_CRASHES):
        await _try_again(version, work, tries, context, now)
        return False
    message = f"The import broke off {tries} times in a row. The last time: {outcome.message}"
    failure = Failure(outcome.reason, message, FailureKind.SYSTEM)
    return await _end(version, work, report, None, failure, context, now)


async def _try_again(
    version: DatasetVersion, work: Work, failures: int, context: ServiceContext, now: datetime
) -> None:
    delay = min(2.0 ** (failures - 1), _LONGEST_DELAY_SECONDS)
    async with context.writing() as uow:
        retry = now + timedelta(seconds=delay)
        await uow.change_work(version.id, work.token, owner="", failures=failures, retry_time=retry)
        await uow.commit()


async def _end(
    version: DatasetVersion,
    work: Work,
    report: ImportReport,
    output: Output | None,
    failure: Failure | None,
    context: ServiceContext,
    now: datetime,
) -> bool:
    """Make it READY (and PUBLISHED) with the output, or FAILED: in one transaction under the token."""
    prefix = context.version_prefix(version, work.token)
    async with context.writing() as uow:
        current = await uow.versions.by_id(version.id)
        owned = await uow.change_work(version.id, work.token, owner="", **asdict(report.counts))
        if current is None or not owned or current.state is not State.IMPORTING:
            # It was applied before when these are the version's rows: the answer to the commit was lost.
            if current is None or current.output is None or current.output.files.prefix != prefix:
                await uow.discard(context.sources.bucket, prefix)
                await uow.commit()
                context.garbage.kick()
            return False
        steps = [current]
        if output is not None:
            steps += current.complete(output, now)
        elif failure is not None:
            bad = report.counts.bad_row_count
            steps.append(current.apply(FAIL, now, cause=failure.message, failure=failure, bad_row_count=bad))
            await uow.discard(context.sources.bucket, prefix)
        for before, after in pairwise(steps):
            await uow.versions.save(after)
            uow.emit(version_event(after, before))
        await uow.put_row_errors(version.id, _refused(version.id, report))
        shown = (await uow.work_of([version.id])).get(version.id)
        await uow.commit()
    for step in steps[1:]:
        context.watchers.notify(version.id, VersionView(step, shown))
    context.garbage.kick()
    context.wake.set()
    return True


def _refused(version_id: str, report: ImportReport) -> list[RefusedRow]:
    return [
        RefusedRow(version_id, position, row.line, row.field, row.code, row.message, source)
        for position, (source, row) in enumerate(report.errors)
    ]


def _output(version: DatasetVersion, work: Work, report: ImportReport, context: ServiceContext) -> Output:
    format = Format[report.format]
    return Output(
        format=format,
        row_count=report.counts.row_count,
        bad_row_count=report.counts.bad_row_count,
        digest=report.digest,
        files=StoredFiles(
            context.sources.bucket, context.version_prefix(version, work.token), json.dumps(report.manifest)
        ),
        statistics_json=json.dumps(report.statistics),
        pairs=format is Format.EVALUATION_PAIRS,
        identity=report.identity,
        notes=report.notes,
    )
