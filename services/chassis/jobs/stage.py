"""What a service tells the job engine about its jobs: the `Stage` protocol and the values that pass through it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from sqlalchemy import Table

from services.chassis.data import Repository, UnitOfWork
from services.chassis.jobs.domain import Attempt, JobCore, Report
from services.chassis.objects import StoreAccess

J = TypeVar("J", bound=JobCore)


@dataclass(frozen=True)
class Readiness:
    """Whether a VALIDATING job may be queued; if not, what it waits for, in plain words."""

    ready: bool
    cause: str = ""


@dataclass(frozen=True)
class Plan:
    """How an attempt's worker is started and what it is told. The engine adds the rest of spec.json.

    `argv` gets the attempt's folder appended as its last word.
    """

    argv: Sequence[str]
    work: Mapping[str, Any]
    """The stage's own part of spec.json (`work`)."""
    output: StoreAccess | None = None
    """The store that the worker writes to; None: the installation's own."""
    cpus: int = 1
    """The cores that it needs."""
    most_cpus: int = 0
    """The cores that it takes if they are free; 0: those that it needs and no more."""
    memory_mb: int = 1024
    gpus: int = 0
    ranks: int = 1
    env: Mapping[str, str] = field(default_factory=dict)
    stores: Mapping[str, StoreAccess] = field(default_factory=dict)
    """Further stores by name, beside `system` and `output`."""


class Stage(Protocol[J]):
    """A lifecycle stage as the engine sees it. Subclass it explicitly to get the defaults of the optional hooks.

    Hooks that take a `uow` run inside the engine's transaction: they must not call the network, and must not commit.
    The others run outside of any transaction and may be repeated after a crash, so they must be idempotent.
    Hooks that return a job return the one that they were given, changed by `dataclasses.replace` in the stage's own
    fields (never `state` or `version`), or by `advance`; the engine saves it.
    """

    name: str
    """The stage's name in subjects, logs and specs, such as `training`."""
    resource: str
    """The noun of its events, such as `job`; empty: its jobs emit no events."""
    table: Table
    """The stage's table of jobs, made by `table_of(Job, metadata, "jobs")`."""

    def jobs(self, uow: UnitOfWork) -> Repository[J]:
        """Return the repository of the stage's jobs on this unit of work."""

    async def plan(self, job: J, attempt: Attempt) -> Plan:
        """Return how this attempt is run. `attempt.resume_checkpoint_id` names the checkpoint to go on from, if any.

        Called outside of any transaction, before every start. Raise `Unavailable` to be asked again in a second;
        any other `ModelryError` fails the job with that message.
        """

    async def prepare(self, job: J) -> Readiness:
        """Check a VALIDATING job; asked every second. An error other than `Unavailable` fails it (kind USER)."""
        return Readiness(ready=True)

    async def granted(self, uow: UnitOfWork, job: J, attempt: Attempt) -> None:
        """Handle a new attempt that got its token. The engine has removed the points after `attempt.resume_step`."""
        return

    async def reported(self, uow: UnitOfWork, job: J, report: Report) -> J:
        """Handle a report that counts, exactly once each and in order; `finished` and `failed` before the job ends.

        `started`, `progress` and `metrics` are stored by the engine; the stage usually looks at `checkpoint`,
        `result` and `finished`. Raise `Invalid` for a body that is wrong: an ending then fails the job.
        """
        return job

    def reason_to_stop(self, job: J, run_seconds: float) -> str:
        """Return a sentence to stop a RUNNING job with that cause, such as its highest cost; asked every second."""
        return ""

    async def ended(self, job: J) -> None:
        """Do what follows the end: settle money, release holds, publish. Repeated until it returns without an error."""
        return

    async def removed(self, uow: UnitOfWork, job: J) -> None:
        """Remove the rows that belong to a job that is being deleted. The engine removes its own."""
        return

    def links(self, job: J) -> dict[str, str]:
        """Return the ids that the job's events point to."""
        return {}
