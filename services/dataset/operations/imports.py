"""The three short transactions of an import: claim, note progress, apply the outcome. The work lies between them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from services.dataset.domain import (
    FAIL,
    DatasetVersion,
    Failure,
    FailureKind,
    Format,
    Output,
    RefusedRow,
    State,
    VersionView,
    Work,
)
from services.dataset.operations.context import Desk, version_event

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


@dataclass(frozen=True)
class Outcome:
    """The last word of an import program: `finished`, `refused` or `failed`, and what it said."""

    kind: str
    body: dict[str, Any]


async def list_waiting(desk: Desk) -> list[Waiting]:
    """All imports that are not over."""
    async with desk.reading() as uow:
        versions = await uow.importing()
        work = await uow.work_of([version.id for version in versions])
    return [Waiting(version, work[version.id]) for version in versions if version.id in work]


async def claim_import(desk: Desk, waiting: Waiting, owner: str) -> Work | None:
    """Takes an import over, with the next token; None when somebody was faster or it is gone."""
    work = waiting.work
    claimed = replace(work, token=work.token + 1, owner=owner, beat=work.beat + 1, row_count=0, bad_row_count=0)
    async with desk.writing() as uow:
        current = await uow.versions.by_id(work.version_id)
        changed = current is not None and await uow.change_work(
            work.version_id,
            work.token,
            token=claimed.token,
            owner=owner,
            beat=claimed.beat,
            row_count=0,
            bad_row_count=0,
            bytes_read=0,
        )
        if not changed:
            return None
        if work.token:  # what the attempt before left behind
            await uow.discard(desk.garbage(desk.version_prefix(waiting.version, work.token)))
        await uow.commit()
    return replace(claimed, bytes_read=0)


async def note_progress(desk: Desk, version: DatasetVersion, work: Work) -> bool:
    """Writes how far an import is; False: it is somebody else's, or gone, and must stop."""
    async with desk.writing() as uow:
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
        desk.watchers.notify(version.id)
    return same


async def give_back(desk: Desk, version: DatasetVersion, work: Work) -> None:
    """Lets an import go, so that the next process takes it at once: this one is stopping."""
    async with desk.writing() as uow:
        await uow.change_work(version.id, work.token, owner="")
        await uow.commit()


async def apply_outcome(desk: Desk, version: DatasetVersion, work: Work, outcome: Outcome, now: datetime) -> bool:
    """Makes the outcome of an attempt true, unless the token is no longer the last one.

    Returns: whether the import is over; False: it is tried again, or was somebody else's.
    """
    if outcome.kind == "finished":
        output = _output(desk, version, work, outcome.body)
        return await _end(desk, version, work, outcome.body, output, None, now)
    if outcome.kind == "refused":
        failure = Failure(outcome.body["reason"], outcome.body["message"], FailureKind.USER)
        return await _end(desk, version, work, outcome.body, None, failure, now)
    tries = work.failures + 1
    most = MAX_OUTAGES if outcome.kind == "failed" else MAX_CRASHES
    if tries < most:
        await _try_again(desk, version, work, tries, now)
        return False
    message = f"the import broke off {tries} times in a row; the last time: {outcome.body['message']}"
    failure = Failure(outcome.body["reason"], message, FailureKind.SYSTEM)
    return await _end(desk, version, work, outcome.body, None, failure, now)


async def _try_again(desk: Desk, version: DatasetVersion, work: Work, failures: int, now: datetime) -> None:
    delay = min(2.0 ** (failures - 1), _LONGEST_DELAY_SECONDS)
    async with desk.writing() as uow:
        retry = now + timedelta(seconds=delay)
        await uow.change_work(version.id, work.token, owner="", failures=failures, retry_time=retry)
        await uow.commit()


async def _end(
    desk: Desk,
    version: DatasetVersion,
    work: Work,
    body: dict[str, Any],
    output: Output | None,
    failure: Failure | None,
    now: datetime,
) -> bool:
    """READY (and PUBLISHED) with the output, or FAILED: in one transaction under the token."""
    async with desk.writing() as uow:
        current = await uow.versions.by_id(version.id)
        counts = {
            "row_count": int(body.get("rows", 0)),
            "bad_row_count": int(body.get("bad_rows", 0)),
            "bytes_read": int(body.get("bytes_read", 0)),
            "bytes_total": int(body.get("bytes_total", 0)),
        }
        owned = await uow.change_work(version.id, work.token, owner="", **counts)
        if current is None or not owned or current.state is not State.IMPORTING:
            await uow.discard(desk.garbage(desk.version_prefix(version, work.token)))
            await uow.commit()
            return False
        steps = [current]
        if output is not None:
            steps += current.complete(output, now)
        elif failure is not None:
            bad = counts["bad_row_count"]
            steps.append(current.apply(FAIL, now, cause=failure.message, failure=failure, bad_row_count=bad))
            await uow.discard(desk.garbage(desk.version_prefix(version, work.token)))
        for before, after in pairwise(steps):
            await uow.versions.save(after)
            uow.emit(version_event(after, before))
        await uow.put_row_errors(version.id, _refused(version.id, body.get("errors", [])))
        shown = (await uow.work_of([version.id])).get(version.id)
        await uow.commit()
    for step in steps[1:]:
        desk.watchers.notify(version.id, VersionView(step, shown))
    desk.wake.set()
    return True


def _refused(version_id: str, errors: Sequence[Sequence[Any]]) -> list[RefusedRow]:
    return [
        RefusedRow(version_id, position, int(line), field, code, message, source)
        for position, (source, line, field, code, message) in enumerate(errors)
    ]


def _output(desk: Desk, version: DatasetVersion, work: Work, body: dict[str, Any]) -> Output:
    found = Format[body["format"]]
    return Output(
        format=found,
        row_count=int(body["rows"]),
        bad_row_count=int(body["bad_rows"]),
        digest=body["digest"],
        bucket=desk.sources.bucket,
        prefix=desk.version_prefix(version, work.token),
        manifest_json=json.dumps(body["manifest"]),
        statistics_json=json.dumps(body["statistics"]),
        pairs=found is Format.EVALUATION_PAIRS,
        identity=body["identity"],
        notes=tuple(body["notes"]),
    )
