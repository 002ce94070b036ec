"""Who gets the free slots: waiting jobs in the order in which they were made."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Generic, TypeVar

from services.chassis.errors import ModelryError
from services.chassis.jobs.attempt_closer import AttemptCloser, how_it_ended
from services.chassis.jobs.attempt_launcher import AttemptLauncher, coming
from services.chassis.jobs.clock import RunClock
from services.chassis.jobs.context import EngineContext
from services.chassis.jobs.domain import (
    WAITING,
    Attempt,
    JobCore,
)
from services.chassis.jobs.outcome import REFUSALS
from services.chassis.launch import NO_FREE_SLOT, ProbeState
from services.chassis.transitions import Failure, FailureKind

J = TypeVar("J", bound=JobCore)


@dataclass(frozen=True)
class Case(Generic[J]):
    """A job with its attempts that are not over."""

    job: J
    attempts: tuple[Attempt, ...]
    ended: tuple[Attempt, ...] = ()
    """Its attempts that are over."""

    @property
    def run_seconds(self) -> float:
        """Seconds that all attempts ran, as written down."""
        return sum(attempt.run_seconds for attempt in (*self.attempts, *self.ended))

    @property
    def waits_since(self) -> datetime:
        """Since when it waits for a worker, while it does: it was made, or its last worker was gone."""
        return max((one.end_time for one in self.ended if one.end_time), default=self.job.create_time)

    @property
    def current(self) -> Attempt | None:
        """The attempt that holds the job's token."""
        return next((attempt for attempt in self.attempts if attempt.token == self.job.token), None)

    @property
    def stale(self) -> tuple[Attempt, ...]:
        """Attempts that may not report any more, whose workers must be gone before another one starts."""
        return tuple(attempt for attempt in self.attempts if attempt.token != self.job.token)


class Scheduler(Generic[J]):
    """Start the next attempts of waiting jobs while there are slots."""

    def __init__(
        self,
        context: EngineContext[J],
        attempt_launcher: AttemptLauncher[J],
        attempt_closer: AttemptCloser[J],
        clock: RunClock,
    ) -> None:
        self._context = context
        self._attempt_launcher = attempt_launcher
        self._attempt_closer = attempt_closer
        self._clock = clock
        self.admitting = ""
        """The job whose worker is being started just now; nobody else may judge what runs of it."""

    async def admit_all(self, waiting: list[Case[J]]) -> None:
        """Give waiting jobs their slots, the oldest first; one that waits for a slot holds those behind it."""
        for place, case in enumerate(waiting):
            if case.stale:
                continue
            self.admitting = case.job.id
            try:
                passed = await self._admit(case)
            finally:
                self.admitting = ""
            if not passed:
                for behind in waiting[place + 1 :]:
                    same = behind.job.project == case.job.project
                    earlier = case.job.id if same else "an earlier job of another project"
                    await self._wait(behind, f"It is the turn of {earlier}, which waits for a free slot.")
                return

    async def _wait(self, case: Case[J], cause: str) -> None:
        """Say how long a job has waited and for what."""
        await self._context.wait(case.job, f"Waits since {case.waits_since:%Y-%m-%d %H:%M} UTC. {cause}")

    async def _admit(self, case: Case[J]) -> bool:
        """Start a job's next attempt. False: there is no free slot, and nobody may pass."""
        job = await self._context.read(case.job.id)
        if job is None or job.state not in WAITING or job.token != case.job.token:
            return True
        attempt = case.current
        try:
            if attempt is None:
                plan = await self._context.stage.plan(job, coming(replace(job, attempt=job.attempt + 1)))
                cause, ever = await self._attempt_launcher.fits(job, plan)
                if cause:
                    await self._wait(case, cause)
                    return not ever
                granted = await self._attempt_launcher.grant(job)
                if granted is None:
                    return True
                job, attempt = granted
            plan = await self._context.stage.plan(job, attempt)
            handle = await self._attempt_launcher.start(job, attempt, plan)
        except REFUSALS as error:
            await self._context.fail(job.id, Failure(error.reason, error.message, FailureKind.USER))
            return True
        except ModelryError as error:
            await self._wait(case, error.message)
            return error.reason != NO_FREE_SLOT
        await self._started(attempt, handle.fresh)
        return True

    async def _started(self, attempt: Attempt, fresh: bool) -> None:
        """Note that the worker was started now, or before a crash: then it is re-attached, or seen dead."""
        if not fresh:
            probe = await self._context.launcher.probe(attempt.launch_id)
            if probe.state is not ProbeState.RUNNING:
                await self._attempt_closer.lose(attempt, how_it_ended(probe))
                return
        self._clock.running((attempt.job_id, attempt.number))
        await self._attempt_launcher.running(attempt)
