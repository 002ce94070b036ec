"""Where the parts of the engine meet: the stage and its adapters, and the one way in which a job is changed."""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar

from services.chassis.clock import now
from services.chassis.data import Database, UnitOfWork, Watchers, retry_conflicts
from services.chassis.events import Event
from services.chassis.jobs.domain import (
    FAIL,
    WAITING,
    Attempt,
    JobCore,
    State,
)
from services.chassis.jobs.lease import Leases
from services.chassis.jobs.settings import JobSettings
from services.chassis.jobs.stage import Stage
from services.chassis.jobs.store import JobStore, JobTables
from services.chassis.launch import Launcher
from services.chassis.transitions import Failure

J = TypeVar("J", bound=JobCore)


def changed(stage: Stage[J], before: J | None, after: J) -> Event | None:
    """Return the event of a job's change of state (of its creation without `before`); None: nothing to tell."""
    if not stage.resource or (before is not None and before.state is after.state):
        return None
    event = job_event(stage, after, "created" if before is None else after.state.lower())
    return replace(event, previous_state="" if before is None else str(before.state), terminal=after.state.ended)


def job_event(stage: Stage[J], job: J, happening: str, links: Mapping[str, str] | None = None) -> Event:
    """Return the event of something about a job that is no change of its state, such as `updated`."""
    return Event(
        project=job.project,
        resource=stage.resource,
        resource_id=job.id,
        happening=happening,
        state=str(job.state),
        previous_state=str(job.state),
        version=job.version,
        cause=job.cause,
        links={**stage.links(job), **(links or {})},
    )


def emit_change(stage: Stage[J], uow: UnitOfWork, before: J | None, after: J) -> None:
    """Emit the event of a job's change of state, if there is one to tell."""
    event = changed(stage, before, after)
    if event is not None:
        uow.emit(event)


@dataclass
class EngineContext(Generic[J]):
    """What the parts of one engine share."""

    stage: Stage[J]
    database: Database
    launcher: Launcher
    settings: JobSettings
    tables: JobTables
    leases: Leases
    watchers: Watchers[J] = field(default_factory=Watchers)
    counts: Counter[str] = field(default_factory=Counter)
    """What came and was not applied, by reason: `ignored`, `repeated`, `malformed`."""
    obeying: set[str] = field(default_factory=set)
    """Launch ids of workers whose heartbeat says that they have heard the stop."""

    def store(self, uow: UnitOfWork) -> JobStore:
        """Return the engine's own tables on a unit of work."""
        return JobStore(uow.connection, self.tables)

    def folder(self, attempt: Attempt) -> Path:
        """Return the attempt's folder on this machine."""
        return self.settings.home / "work" / attempt.launch_id

    async def read(self, job_id: str) -> J | None:
        """Return a job as it is, or None when it was deleted."""
        async with UnitOfWork(self.database, write=False) as uow:
            return await self.stage.jobs(uow).by_id(job_id)

    async def save(self, uow: UnitOfWork, job: J, steps: list[J]) -> list[J]:
        """Store the steps of a job that change anything, with their events, and return them as they are stored.

        Versions grow by one, whatever a hook did.
        """
        saved = [job]
        for step in steps:
            before = saved[-1]
            if replace(step, version=before.version) != before:
                after = replace(step, version=before.version + 1)
                await self.stage.jobs(uow).save(after)
                emit_change(self.stage, uow, before, after)
                saved.append(after)
        return saved[1:]

    async def step(self, job_id: str, sources: Collection[State], rule: Callable[[J], J]) -> None:
        """Apply `rule` to a job that is in one of these states, as `change` does; leave any other as it is."""

        async def steps(uow: UnitOfWork, current: J) -> list[J]:
            return [rule(current)] if current.state in sources else []

        await self.change(job_id, steps)

    async def change(self, job_id: str, rule: Callable[[UnitOfWork, J], Awaitable[list[J]]]) -> J | None:
        """Apply `rule` to a job in one transaction and tell the watchers. Conflicts are tried again.

        `rule` returns the job after each step, in order; an empty list changes nothing. Returns: the job as it then
        is, None when there is none.
        """

        @retry_conflicts
        async def attempt() -> tuple[J | None, list[J]]:
            async with UnitOfWork(self.database) as uow:
                job = await self.stage.jobs(uow).by_id(job_id)
                if job is None:
                    return None, []
                saved = await self.save(uow, job, await rule(uow, job))
                await uow.commit()
            return [job, *saved][-1], saved

        job, saved = await attempt()
        self.tell(saved)
        return job

    async def fail(self, job_id: str, failure: Failure) -> None:
        """Fail a job that cannot go on, unless it is stopping or has ended."""
        await self.step(job_id, FAIL.sources, lambda job: job.apply(FAIL, now(), failure.message, failure))

    async def wait(self, job: J, cause: str) -> None:
        """Say in plain words why a waiting job does not start yet."""
        if job.cause != cause:
            await self.step(job.id, WAITING, lambda current: current.wait(now(), cause))

    def tell(self, saved: list[J]) -> None:
        """Tell the watchers of committed steps."""
        for job in saved:
            self.watchers.notify(job.id, job)
