"""Reports become state: each exactly once, in order, under the token of the attempt that wrote it."""

import asyncio
import hmac
import logging
import math
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Generic, TypeVar

from services.chassis.clock import now
from services.chassis.data import UnitOfWork
from services.chassis.errors import Invalid
from services.chassis.jobs.context import EngineContext
from services.chassis.jobs.domain import (
    Attempt,
    AttemptState,
    Fact,
    JobCore,
    Report,
    State,
)
from services.chassis.jobs.outcome import Outcome, failure_of, moves, outcome_of
from services.chassis.jobs.store import MetricPoint, Progress
from services.chassis.transitions import Failure, FailureKind

J = TypeVar("J", bound=JobCore)
_log = logging.getLogger(__name__)

SpoolReader = Callable[[Path, int], Sequence[dict[str, Any]]]
"""Reads the reports of an attempt's folder whose number is greater than the one given, in order."""


class Applied(Enum):
    """What became of a report."""

    APPLIED = "applied"
    REPEATED = "repeated"
    IGNORED = "ignored"
    """An old token, a wrong secret, an ended job, or one that is gone: acknowledged and counted."""
    GAP = "gap"
    """An earlier report of the attempt is missing; nothing was changed."""
    MALFORMED = "malformed"
    """Its body is wrong: it is skipped, and an ending fails the job."""


class Reports(Generic[J]):
    """Apply the reports of one stage's workers, whichever way they come."""

    def __init__(self, context: EngineContext[J], read_spool: SpoolReader) -> None:
        self._context = context
        self._read_spool = read_spool

    async def take(self, data: Any, job_id: str) -> Applied:
        """Apply a report that came over the bus. What is missing before it is read from the attempt's spool.

        Args:
            job_id: whose worker sent it, as the bus says.

        Raises: Invalid: it is no report, of another job, or its body is wrong; it will never be applied.
        """
        report = report_of(data, job_id)
        applied = await self._apply(report)
        if applied is Applied.GAP:
            await self.drain(report.job_id, report.attempt)
            applied = await self._apply(report, gaps=True)
        if applied is Applied.MALFORMED:
            raise Invalid(f"Report {report.number} of {report.job_id} has a wrong body.", field="body")
        return applied

    async def drain(self, job_id: str, number: int) -> None:
        """Apply everything in an attempt's spool that was not applied yet."""
        async with UnitOfWork(self._context.database, write=False) as uow:
            attempt = await self._context.store(uow).attempt(job_id, number)
        if attempt is None:
            return
        folder = self._context.folder(attempt)
        for data in await asyncio.to_thread(self._read_spool, folder, attempt.last_number):
            try:
                await self._apply(report_of(data, job_id), gaps=True)
            except Invalid:
                self._context.counts["malformed"] += 1
                _log.exception("a report in the spool of %s cannot be read", attempt.launch_id)

    async def _apply(self, report: Report, *, gaps: bool = False) -> Applied:
        try:
            applied, saved = await self._once(report, gaps, None)
        except Invalid as refused:
            _log.warning("report %s of %s is wrong: %s", report.number, report.job_id, refused, exc_info=True)
            applied, saved = Applied.MALFORMED, (await self._once(report, gaps, refused))[1]
        if applied is not Applied.APPLIED:
            self._context.counts[applied.value] += 1
        else:
            self._context.leases.heard(f"{report.job_id}-{report.attempt}")
            self._context.watchers.notify(report.job_id)
        self._context.tell(saved)
        return applied

    async def _once(self, report: Report, gaps: bool, refused: Invalid | None) -> tuple[Applied, list[J]]:
        """Try once, in one transaction. With `refused` the stage is not asked: it said that the body is wrong."""
        context = self._context
        async with UnitOfWork(context.database) as uow:
            job = await context.stage.jobs(uow).by_id(report.job_id)
            store = context.store(uow)
            attempt = await store.attempt(report.job_id, report.attempt)
            if job is None or attempt is None or not hmac.compare_digest(attempt.secret, report.secret):
                return Applied.IGNORED, []
            if outcome_of(job, report) is Outcome.IGNORE:
                return Applied.IGNORED, []
            if report.number <= attempt.last_number:
                return Applied.REPEATED, []
            if report.number > attempt.last_number + 1 and not gaps:
                return Applied.GAP, []
            await store.change_attempt(attempt, last_number=report.number, state=AttemptState.RUNNING)
            steps = await self._steps(uow, job, attempt, report, refused)
            saved = await context.save(uow, job, steps)
            await uow.commit()
        return Applied.APPLIED, saved

    async def _steps(
        self, uow: UnitOfWork, job: J, attempt: Attempt, report: Report, refused: Invalid | None
    ) -> list[J]:
        """Return the job after each step that a report which counts makes it take."""
        outcome, told = outcome_of(job, report), job
        if refused is None:
            await self._keep(uow, attempt, report)
            told = await self._context.stage.reported(uow, job, report)
        elif outcome is not Outcome.APPLY:
            outcome = Outcome.CLOSE if job.state is State.STOPPING else Outcome.FAIL
        cause, failure = explain(job, report, refused)
        steps = moves(told, outcome, now(), cause, failure)
        # What the stage told of with a version of its own stays a step of its own.
        return [told, *steps] if told.version > job.version else steps or [told]

    async def _keep(self, uow: UnitOfWork, attempt: Attempt, report: Report) -> None:
        """Store the high-rate part of a report."""
        store = self._context.store(uow)
        if report.fact is Fact.METRICS:
            await store.put_points(attempt, report.number, read_points(report.body.get("points")))
        elif report.fact is Fact.PROGRESS:
            await store.put_progress(report.job_id, read_progress(report.body), now())


def report_of(data: Any, job_id: str) -> Report:
    """Return the report of a job's worker. Raises: Invalid."""
    report = Report.parse(data)
    if report.job_id != job_id:
        raise Invalid(f"The worker of {job_id} reports of another job.", field="job_id")
    return report


def explain(job: JobCore, report: Report, refused: Invalid | None) -> tuple[str, Failure | None]:
    """Say why the job changes, in plain words, and return the failure that the report tells."""
    if refused is not None:
        message = f"The worker's last word cannot be read: {refused}"
        return message, Failure("WRONG_REPORT", message, FailureKind.SYSTEM)
    if report.kind == "failed":
        failure = failure_of(report)
        return (job.cause if job.state is State.STOPPING else failure.message), failure
    if report.fact is Fact.FINISHED:
        return "All of its work is done.", None
    if report.fact is Fact.STOPPED:
        step = report.body.get("step")
        asked = (
            job.cause
            if job.state in (State.STOPPING, State.PAUSING)
            else "The worker was told to stop by somebody else."
        )
        return (asked if step is None else f"{asked} It ended at step {step}."), None
    return job.cause, None


def read_points(points: Any) -> list[MetricPoint]:
    """Return the metric points of a report. Raises Invalid for anything that is none."""
    if not isinstance(points, list):
        raise Invalid("points must be a list.", field="body.points")
    result = []
    for index, point in enumerate(points):
        step, values = (point.get("step"), point.get("values")) if isinstance(point, dict) else (None, None)
        if not isinstance(step, int) or not isinstance(values, dict):
            raise Invalid("A point has a step and values.", field=f"body.points[{index}]")
        result.append(MetricPoint(step, {name: float(value) for name, value in values.items() if _finite(value)}))
    return result


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def read_progress(body: Any) -> Progress:
    """Return the progress that a report tells; what has no place of its own goes to `extra`."""
    known = {"done", "total", "unit", "phase", "eta_seconds"}
    eta = body.get("eta_seconds")
    try:
        return Progress(
            done=float(body.get("done") or 0),
            total=float(body.get("total") or 0),
            unit=str(body.get("unit") or ""),
            phase=str(body.get("phase") or ""),
            eta_seconds=None if eta is None else float(eta),
            extra={name: value for name, value in body.items() if name not in known} or None,
        )
    except (TypeError, ValueError) as error:
        raise Invalid("done, total and eta_seconds must be numbers.", field="body") from error
