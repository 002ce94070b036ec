"""The rules of every job in Modelry: states, transitions, attempts and what each report means. Pure.

A stage's own entity extends `JobCore` (``@dataclass(frozen=True, kw_only=True) class Job(JobCore)``) and adds its
fields; the engine only ever reads and changes what is declared here. Nothing else may assign a state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Self

from services.chassis.errors import Invalid, WrongState
from services.chassis.money import cost_of
from services.chassis.transitions import Failure, FailureKind, Transition

ATTEMPT_LIMIT = 3
"""How many attempts in a row may end without a new checkpoint before the job fails."""

REPORT_FORMATS = (1,)
"""The formats of worker reports that this code reads: its own and, later, the one before."""


class State(StrEnum):
    """Where a job is. Words in -ING pass; words in -ED are last (PAUSED waits for its resume)."""

    VALIDATING = "VALIDATING"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    PAUSING = "PAUSING"
    PAUSED = "PAUSED"
    RESUMING = "RESUMING"
    STOPPING = "STOPPING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"

    @property
    def ended(self) -> bool:
        """Whether nothing follows this state."""
        return self in ENDED


ENDED = frozenset({State.SUCCEEDED, State.FAILED, State.STOPPED})
WAITING = frozenset({State.QUEUED, State.RESUMING})
"""States in which a job waits for a place to run; a granted token already belongs to its coming attempt."""
WORKING = frozenset({State.RUNNING, State.PAUSING, State.STOPPING})
"""States in which a worker ought to be running."""
LEASED = WAITING | WORKING
ACTIVE = frozenset(State) - ENDED


class JobNotActive(WrongState):
    """The job is in a state that the verb does not accept."""

    default_reason = "JOB_NOT_ACTIVE"


QUEUE = Transition("queue", frozenset({State.VALIDATING}), State.QUEUED)
START = Transition("start", WAITING, State.RUNNING)
FINISH = Transition("finish", WORKING, State.SUCCEEDED)
FAIL = Transition("fail", frozenset({State.VALIDATING, State.RUNNING, State.PAUSING}) | WAITING, State.FAILED)
LOSE = Transition("lose", WAITING | {State.RUNNING}, State.RESUMING)
STOP = Transition("stop", frozenset({State.RUNNING, State.PAUSING}), State.STOPPING)
CLOSE = Transition("close", frozenset({State.VALIDATING, State.PAUSED, State.STOPPING}) | WAITING, State.STOPPED)
PAUSE = Transition("pause", frozenset({State.RUNNING}), State.PAUSING)
REST = Transition("rest", frozenset({State.PAUSING}) | WAITING, State.PAUSED)
RESUME = Transition("resume", frozenset({State.PAUSED}), State.RESUMING)

TRANSITIONS = (QUEUE, START, FINISH, FAIL, LOSE, STOP, CLOSE, PAUSE, REST, RESUME)


@dataclass(frozen=True, kw_only=True)
class JobCore:
    """What the engine knows of a job. A stage's entity extends it; every field is a column of the stage's table."""

    id: str
    project: str
    create_time: datetime
    update_time: datetime
    version: int = 1
    state: State = State.QUEUED
    cause: str = ""
    """Why the job is in this state, in plain words."""
    failure: Failure | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    token: int = 0
    """The fencing token of the attempt whose reports count; 0 when no attempt may report."""
    attempt: int = 0
    """The number of the newest attempt, counted from 1; 0 before the first."""
    attempts_without_checkpoint: int = 0
    """Attempts in a row, the newest one included, without a new checkpoint."""
    checkpoint_id: str = ""
    """The newest recorded checkpoint, from which the next attempt goes on; empty: from the beginning."""
    checkpoint_step: int = 0
    settled: bool = False
    """Whether what follows the end (money, holds, publishing) is done."""

    def apply(self, transition: Transition[State], now: datetime, cause: str, failure: Failure | None = None) -> Self:
        """Perform `transition`. Raises `JobNotActive` when the job's state is not one of its sources."""
        if self.state not in transition.sources:
            raise refusal(self, transition)
        target = transition.target
        return replace(
            self,
            state=target,
            version=self.version + 1,
            update_time=now,
            cause=cause,
            failure=failure,
            start_time=now if target is State.RUNNING and self.start_time is None else self.start_time,
            end_time=now if target.ended else self.end_time,
            token=self.token if target in WORKING else 0,
        )

    def stop(self, now: datetime, cause: str) -> Self:
        """Return what the verb `stop` makes of the job; the same job when it is stopping or stopped already."""
        if self.state in (State.STOPPING, State.STOPPED):
            return self
        if self.state.ended:
            raise refusal(self, replace(STOP, sources=STOP.sources | CLOSE.sources))
        return self.apply(CLOSE if self.state in CLOSE.sources else STOP, now, cause)

    def grant(self, token: int, now: datetime) -> Self:
        """Give the job's next attempt its fencing token; reports with any older one no longer count."""
        if self.state not in WAITING:
            raise refusal(self, START)
        if token <= self.token:
            raise ValueError(f"token {token} is not newer than {self.token}")
        return replace(
            self,
            version=self.version + 1,
            update_time=now,
            token=token,
            attempt=self.attempt + 1,
            attempts_without_checkpoint=self.attempts_without_checkpoint + 1,
        )

    def wait(self, now: datetime, cause: str) -> Self:
        """Return the same state with another cause, such as why a queued job does not start yet."""
        return self if cause == self.cause else replace(self, version=self.version + 1, update_time=now, cause=cause)

    def advance(self, checkpoint_id: str, step: int, now: datetime) -> Self:
        """Record the point from which a next attempt goes on; the attempt then has a checkpoint."""
        return replace(
            self,
            version=self.version + 1,
            update_time=now,
            checkpoint_id=checkpoint_id,
            checkpoint_step=step,
            attempts_without_checkpoint=0,
        )

    def mark_paid(self, now: datetime) -> Self:
        """Mark that everything that follows the end is done."""
        return replace(self, version=self.version + 1, update_time=now, settled=True)


@dataclass(frozen=True, kw_only=True)
class PricedJob(JobCore):
    """A job that callers name and pay for by the minute."""

    name: str = ""
    title: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    quote_id: str = ""
    max_cost: Decimal | None = None
    unit_price: Decimal = Decimal(0)
    """Price of a minute, held since the job was made."""

    def cost(self, run_seconds: float) -> Decimal:
        """Return what that much running time costs."""
        return cost_of(run_seconds / 60, self.unit_price)


def refuse_delete(noun: str, job: PricedJob) -> None:
    """Refuse a job that is active, or whose end is not settled yet. Raises: WrongState."""
    reason = f"{noun.upper()}_ACTIVE"
    if not job.state.ended:
        raise WrongState.of(noun, job.name or job.id, "delete", str(job.state), map(str, ENDED), reason)
    if not job.settled:
        message = f"The {noun} has just ended and is being settled; try again in a moment."
        raise WrongState(message, reason=reason)


def refusal(job: JobCore, transition: Transition[State]) -> JobNotActive:
    """Return the error of a verb that the job's state does not accept."""
    allowed = ",".join(sorted(transition.sources))
    message = f"Cannot {transition.name} {job.id!r}: it is {job.state}. It must be {allowed.replace(',', ' or ')}."
    return JobNotActive(message, metadata={"state": str(job.state), "allowed_states": allowed, "id": job.id})


class Fact(StrEnum):
    """What can be learned about an attempt: a worker's report, or that its worker is gone."""

    STARTED = "started"
    PROGRESS = "progress"
    METRICS = "metrics"
    CHECKPOINT = "checkpoint"
    RESULT = "result"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED_USER = "failed by the input"
    FAILED_SYSTEM = "failed by the system"
    LOST = "lost"


@dataclass(frozen=True)
class Report:
    """One report of a worker. (job, attempt, number) names it; `token` says whether it still counts.

    `secret` is that of its attempt: nobody but its worker knows it. Attempts of before they had one have none.
    """

    job_id: str
    attempt: int
    token: int
    number: int
    """Counted from 1 in each attempt."""
    kind: str
    time: str = ""
    body: Mapping[str, Any] = field(default_factory=dict)
    secret: str = field(default="", repr=False)

    @property
    def fact(self) -> Fact:
        """Which fact it tells; raises `Invalid` for a kind that this code does not know."""
        if self.kind == "failed":
            return Fact.FAILED_USER if self.body.get("kind") == FailureKind.USER else Fact.FAILED_SYSTEM
        try:
            return Fact(self.kind)
        except ValueError as error:
            raise Invalid(f"A report of kind {self.kind!r} is unknown.", field="kind") from error

    @staticmethod
    def parse(data: Any) -> Report:
        """Read a report as it came over the bus or from a spool; raises `Invalid` naming the field that is wrong."""
        if not isinstance(data, dict):
            raise Invalid("A report must be a JSON object.", field="report")
        if data.get("format") not in REPORT_FORMATS:
            raise Invalid(f"Report format {data.get('format')!r} is unknown.", field="format")
        for name, kind in (("job_id", str), ("attempt", int), ("token", int), ("number", int), ("kind", str)):
            if not isinstance(data.get(name), kind):
                raise Invalid(f"The report's {name} is missing or of a wrong type.", field=name)
        body, secret = data.get("body"), data.get("secret", "")
        if not isinstance(body, dict):
            raise Invalid("The report's body must be an object.", field="body")
        if not isinstance(secret, str) or not secret.isascii():
            raise Invalid("The report's secret is of a wrong type.", field="secret")
        who = (data["job_id"], data["attempt"], data["token"], data["number"])
        report = Report(*who, data["kind"], str(data.get("time", "")), body, secret)
        _ = report.fact
        return report


class AttemptState(StrEnum):
    """Where an attempt is: its token is granted, its worker was seen, it is over."""

    STARTING = "STARTING"
    RUNNING = "RUNNING"
    ENDED = "ENDED"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One try of a job by one worker. The newest one of a job holds its token while the job may report."""

    job_id: str
    number: int
    token: int
    create_time: datetime
    state: AttemptState = AttemptState.STARTING
    resume_checkpoint_id: str = ""
    resume_step: int = 0
    last_number: int = 0
    """The number of the last report that was applied; a report with this one or a lower one is a repeat."""
    run_seconds: float = 0.0
    """How long its worker ran, by monotonic clocks."""
    end_time: datetime | None = None
    ending: str = ""
    """How it ended, in plain words."""
    secret: str = field(default="", repr=False)
    """Random bits that its worker's reports and heartbeats carry: a token can be guessed."""

    @property
    def launch_id(self) -> str:
        """The name of its worker at the launcher and of its folder."""
        return f"{self.job_id}-{self.number}"
