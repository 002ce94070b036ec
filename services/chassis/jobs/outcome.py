"""What each report means: the written outcome of every (state, fact) pair, and the moves that it asks for. Pure."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from services.chassis.errors import AlreadyExists, Denied, Invalid, NotFound, WrongState
from services.chassis.jobs.domain import (
    ATTEMPT_LIMIT,
    CLOSE,
    FAIL,
    FINISH,
    LEASED,
    LOSE,
    REST,
    START,
    WAITING,
    Fact,
    JobCore,
    Report,
    State,
)
from services.chassis.transitions import Failure, FailureKind

J = TypeVar("J", bound=JobCore)

REFUSALS = (Invalid, Denied, NotFound, AlreadyExists, WrongState)
"""A part looked at what a job asks for and refuses it: asking again changes nothing, and the job fails as its user's
fault. Every other error is trouble of a part, and the job waits until it is over."""


class Outcome(StrEnum):
    """What a fact does to a job in a certain state."""

    IGNORE = "ignore"
    """Acknowledged and counted, nothing changes."""
    APPLY = "apply"
    """The data is stored and the stage is told; the state stays, except that a waiting job is then running."""
    FINISH = "finish"
    CLOSE = "close"
    FAIL = "fail"
    RETRY = "retry"
    """The attempt is over; another one goes on from the last checkpoint, unless the limit is reached."""
    REST = "rest"


_DATA = (Fact.STARTED, Fact.PROGRESS, Fact.METRICS, Fact.CHECKPOINT, Fact.RESULT)
_ENDINGS: Mapping[State, tuple[Outcome, Outcome, Outcome, Outcome, Outcome]] = {
    #                finished         stopped        failed (user)  failed (system) lost
    State.QUEUED: (Outcome.FINISH, Outcome.RETRY, Outcome.FAIL, Outcome.RETRY, Outcome.RETRY),
    State.RESUMING: (Outcome.FINISH, Outcome.RETRY, Outcome.FAIL, Outcome.RETRY, Outcome.RETRY),
    State.RUNNING: (Outcome.FINISH, Outcome.RETRY, Outcome.FAIL, Outcome.RETRY, Outcome.RETRY),
    State.PAUSING: (Outcome.FINISH, Outcome.REST, Outcome.FAIL, Outcome.REST, Outcome.REST),
    State.STOPPING: (Outcome.FINISH, Outcome.CLOSE, Outcome.CLOSE, Outcome.CLOSE, Outcome.CLOSE),
}
_ENDING_FACTS = (Fact.FINISHED, Fact.STOPPED, Fact.FAILED_USER, Fact.FAILED_SYSTEM, Fact.LOST)

OUTCOMES: Mapping[tuple[State, Fact], Outcome] = {
    **{(state, fact): Outcome.IGNORE for state in State for fact in Fact},
    **{(state, fact): Outcome.APPLY for state in LEASED for fact in _DATA},
    **{(state, fact): out for state, row in _ENDINGS.items() for fact, out in zip(_ENDING_FACTS, row, strict=True)},
}
"""The written outcome of every (state, fact) pair, for a fact of the attempt that holds the job's token."""


def outcome_of(job: JobCore, report: Report) -> Outcome:
    """Return what a report does to the job: nothing, when its token is not the job's, else what the table says."""
    if job.token == 0 or report.token != job.token:
        return Outcome.IGNORE
    return OUTCOMES[(job.state, report.fact)]


def failure_of(report: Report) -> Failure:
    """Return the failure that a `failed` report tells."""
    kind = FailureKind.USER if report.body.get("kind") == FailureKind.USER else FailureKind.SYSTEM
    reason = str(report.body.get("reason") or "WORKER_FAILED")
    return Failure(reason, str(report.body.get("message") or "The worker failed without saying why."), kind)


def moves(job: J, outcome: Outcome, now: datetime, cause: str, failure: Failure | None = None) -> list[J]:
    """Return the job after each transition that `outcome` asks for, in order; empty when its state stays.

    `failure` is what a reported failure told; it becomes the job's when no further attempt is allowed.
    """
    if outcome is Outcome.IGNORE:
        return []
    started = [job.apply(START, now, f"Attempt {job.attempt} runs.")] if job.state in WAITING else []
    if outcome is Outcome.APPLY:
        return started
    if outcome is Outcome.RETRY:
        return [retry(job, now, cause, failure)]
    job = started[-1] if started else job
    target = {Outcome.FINISH: FINISH, Outcome.CLOSE: CLOSE, Outcome.FAIL: FAIL, Outcome.REST: REST}[outcome]
    return [*started, job.apply(target, now, cause, failure if outcome is Outcome.FAIL else None)]


def retry(job: J, now: datetime, cause: str, failure: Failure | None) -> J:
    """Return what an attempt's unwanted end makes of its job: it resumes, or fails when the limit is reached."""
    if job.attempts_without_checkpoint < ATTEMPT_LIMIT:
        where = f"step {job.checkpoint_step}" if job.checkpoint_id else "the beginning"
        return job.apply(LOSE, now, f"{cause} It goes on from {where}.")
    message = f"{ATTEMPT_LIMIT} attempts in a row ended without a new checkpoint. The last one: {cause}"
    kept = Failure(failure.reason, message, failure.kind) if failure else None
    return job.apply(FAIL, now, message, kept or Failure("ATTEMPTS_EXHAUSTED", message, FailureKind.SYSTEM))
