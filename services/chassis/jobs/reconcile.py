"""Wanted and actual state, compared again and again: every difference is mended, however it came about."""

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Generic, TypeVar

from services.chassis.background import BackgroundLoop
from services.chassis.clock import now
from services.chassis.data import UnitOfWork
from services.chassis.errors import Conflict, ModelryError, Unavailable
from services.chassis.jobs.attempt_closer import AttemptCloser, how_it_ended
from services.chassis.jobs.attempt_launcher import AttemptLauncher
from services.chassis.jobs.clock import RunClock
from services.chassis.jobs.context import EngineContext
from services.chassis.jobs.domain import (
    ENDED,
    QUEUE,
    WAITING,
    WORKING,
    Attempt,
    AttemptState,
    JobCore,
    State,
)
from services.chassis.jobs.outcome import REFUSALS
from services.chassis.jobs.report_listener import ReportListener
from services.chassis.jobs.reports import Reports
from services.chassis.jobs.schedule import Case, Scheduler
from services.chassis.launch import ProbeState
from services.chassis.tasks import end_tasks
from services.chassis.telemetry import job_context
from services.chassis.transitions import Failure, FailureKind

J = TypeVar("J", bound=JobCore)
_log = logging.getLogger(__name__)
_RETRY_LONGEST_SECONDS = 60.0


class Reconciler(BackgroundLoop, Generic[J]):
    """Look at every job that needs something, each second and after every kick."""

    def __init__(
        self,
        context: EngineContext[J],
        attempt_launcher: AttemptLauncher[J],
        reports: Reports[J],
        report_listener: ReportListener[J],
        clean: Callable[[], Awaitable[None]],
    ) -> None:
        """Args: clean: drops what a crash left; awaited before the first tick, when nothing is being launched yet."""
        super().__init__(f"jobs of {context.stage.name}", self._clean_and_look, context.settings.reconcile_seconds)
        self._context = context
        self._clean: Callable[[], Awaitable[None]] | None = clean
        self._reports = reports
        self._report_listener = report_listener
        self.clock = RunClock()
        self._attempt_closer = AttemptCloser(context, reports, self.clock)
        self._scheduler = Scheduler(context, attempt_launcher, self._attempt_closer, self.clock)
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._tries: dict[str, tuple[int, float]] = {}
        self._since: dict[str, float] = {}
        self._flushed = time.monotonic()

    async def stop(self) -> None:
        """Stop looking, end what is under way, and write the running time of workers down."""
        await super().stop()
        await end_tasks(*self._busy.values())
        with suppress(ModelryError):
            await self.flush()

    async def _clean_and_look(self) -> None:
        if self._clean is not None:
            await self._clean()
            self._clean = None
        await self.tick()

    async def tick(self) -> None:
        """Attend to every job once. What takes long goes on by itself and is not begun twice."""
        cases = await self._cases()
        for case in cases:
            self._begin(case.job.id, self._attend(case))
        waiting = [case for case in cases if case.job.state in WAITING]
        if waiting:
            self._begin("", self._scheduler.admit_all(waiting))
        if time.monotonic() - self._flushed > self._context.settings.flush_seconds:
            await self.flush()

    async def flush(self) -> None:
        """Write the running time of workers down."""
        self._flushed = time.monotonic()
        taken = self.clock.take()
        if not taken:
            return
        try:
            async with UnitOfWork(self._context.database) as uow:
                await self._context.store(uow).add_seconds(taken)
                await uow.commit()
        except ModelryError:
            self.clock.give_back(taken)
            raise

    async def _cases(self) -> list[Case[J]]:
        context, cases = self._context, []
        async with UnitOfWork(context.database, write=False) as uow:
            store, jobs = context.store(uow), context.stage.jobs(uow)
            for job_id in await store.needing(context.stage.table):
                job = await jobs.by_id(job_id)
                attempts = await store.attempts(job_id)
                if job is not None:
                    ended = tuple(attempt for attempt in attempts if attempt.state is AttemptState.ENDED)
                    cases.append(Case(job, tuple(one for one in attempts if one not in ended), ended))
        return cases

    def _begin(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        if key in self._busy or self._tries.get(key, (0, 0.0))[1] > time.monotonic():
            work.close()
            return
        task = asyncio.create_task(self._guard(key, work), name=f"job {key or 'schedule'}")
        self._busy[key] = task
        task.add_done_callback(lambda _: self._busy.pop(key, None))

    async def _guard(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        """Run one piece of work; what fails is tried again after a delay that grows."""
        try:
            with job_context(key):
                await work
        except Exception as error:
            count = self._tries.get(key, (0, 0.0))[0] + 1
            longest = min(_RETRY_LONGEST_SECONDS, self._context.settings.retry_max_seconds)
            delay = min(longest, self._context.settings.reconcile_seconds * 2 ** min(count - 1, 6))
            self._tries[key] = (count, time.monotonic() + delay)
            told = isinstance(error, Unavailable | Conflict)
            _log.log(
                logging.WARNING if told else logging.ERROR,
                "job %s: %s; again in %.1f s",
                key,
                error,
                delay,
                exc_info=None if told else error,
                extra={"job_id": key},
            )
        else:
            self._tries.pop(key, None)

    async def _attend(self, case: Case[J]) -> None:
        """Do what one job needs, except giving it a slot."""
        job, current = case.job, case.current
        for attempt in case.stale:
            if job.id != self._scheduler.admitting and await self._attempt_closer.reap(attempt):
                self.kick()
        if job.state is State.VALIDATING:
            await self._prepare(job)
        elif job.state in WORKING and current is not None:
            await self._observe(case, current)
        elif job.state.ended and not job.settled:
            await self._follow_up(job)

    async def _prepare(self, job: J) -> None:
        try:
            readiness = await self._context.stage.prepare(job)
        except REFUSALS as error:
            await self._context.fail(job.id, Failure(error.reason, error.message, FailureKind.USER))
            self.kick()
            return
        cause = readiness.cause or "It is ready and waits for a slot."
        if readiness.ready:
            await self._context.step(job.id, {State.VALIDATING}, lambda one: one.apply(QUEUE, now(), cause))
            self.kick()
        else:
            await self._context.step(job.id, {State.VALIDATING}, lambda one: one.wait(now(), readiness.cause))

    async def _follow_up(self, job: J) -> None:
        await self.flush()
        await self._context.stage.ended(job)
        await self._context.step(job.id, ENDED, lambda one: one if one.settled else one.mark_paid(now()))

    async def _observe(self, case: Case[J], attempt: Attempt) -> None:
        """Compare a job that ought to be worked on with its worker."""
        job, key = case.job, (attempt.job_id, attempt.number)
        probe = await self._context.launcher.probe(attempt.launch_id)
        if probe.state is not ProbeState.RUNNING:
            self.clock.over(key)
            await self._lose(attempt, how_it_ended(probe))
            return
        self.clock.running(key)
        self._context.leases.expect(attempt.launch_id, attempt.secret)
        if not self._report_listener.connected:  # its spool tells the same
            await self._reports.drain(*key)
        if self._context.leases.expired(attempt.launch_id):
            silence = self._context.leases.silence(attempt.launch_id)
            await self._lose(attempt, f"The worker was silent for {silence:.0f} s and was killed.")
        elif job.state in (State.STOPPING, State.PAUSING):
            await self._press(job, attempt)
        elif job.state is State.RUNNING:
            await self._limit(job, case.run_seconds + self.clock.pending(key))

    async def _press(self, job: J, attempt: Attempt) -> None:
        """Tell a worker to stop, again and again; kill it when it takes too long."""
        settings, begun, told = self._context.settings, f"stop {attempt.launch_id}", f"told {attempt.launch_id}"
        moment = time.monotonic()
        if moment - self._since.setdefault(begun, moment) > settings.stop_seconds:
            await self._lose(attempt, f"The worker did not stop within {settings.stop_seconds:.0f} s.")
            return
        if attempt.launch_id in self._context.obeying:  # it was heard
            return
        due = moment - self._since.get(told, float("-inf")) > settings.signal_seconds
        if due and await self._context.launcher.signal(attempt.launch_id, signal.SIGTERM):
            self._since[told] = moment

    async def _limit(self, job: J, run_seconds: float) -> None:
        cause = self._context.stage.reason_to_stop(job, run_seconds)
        if cause:
            await self._context.step(job.id, {State.RUNNING}, lambda one: one.stop(now(), cause))
            self.kick()

    async def _lose(self, attempt: Attempt, how: str) -> None:
        await self._attempt_closer.lose(attempt, how)
        for word in ("stop", "told"):
            self._since.pop(f"{word} {attempt.launch_id}", None)
        self.kick()
