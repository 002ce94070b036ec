"""The end of an attempt: its worker is seen dead, its last words are read, and only then it is over."""

import signal
import time
from typing import Generic, TypeVar

from services.chassis.clock import now
from services.chassis.data import UnitOfWork
from services.chassis.jobs.clock import RunClock
from services.chassis.jobs.context import EngineContext
from services.chassis.jobs.domain import Attempt, AttemptState, Fact, JobCore
from services.chassis.jobs.outcome import OUTCOMES, Outcome, moves
from services.chassis.jobs.reports import Reports
from services.chassis.launch import Probe, ProbeState

J = TypeVar("J", bound=JobCore)


class AttemptCloser(Generic[J]):
    """End attempts, whether they still hold their job's token or not."""

    def __init__(self, context: EngineContext[J], reports: Reports[J], clock: RunClock) -> None:
        self._context = context
        self._reports = reports
        self._clock = clock
        self._since: dict[str, float] = {}

    async def lose(self, attempt: Attempt, how: str) -> None:
        """Close a job's current attempt, whose worker is gone or is to be; the spool holds what it did not tell."""
        await self._context.launcher.kill(attempt.launch_id)
        await self._reports.drain(attempt.job_id, attempt.number)

        async def rule(uow: UnitOfWork, current: J) -> list[J]:
            await self._close(uow, attempt, how)
            if current.token != attempt.token:  # its spool held its last word
                return []
            outcome = OUTCOMES[(current.state, Fact.LOST)]
            cause = how if outcome is Outcome.RETRY else f"{current.cause} {how}"
            return moves(current, outcome, now(), cause)

        await self._context.change(attempt.job_id, rule)
        self._forget(attempt)

    async def reap(self, attempt: Attempt) -> bool:
        """End the worker of an attempt that lost its token. False: it may still end by itself."""
        probe = await self._context.launcher.probe(attempt.launch_id)
        if probe.state is ProbeState.RUNNING and attempt.state is AttemptState.RUNNING:
            moment = time.monotonic()
            begun = self._since.setdefault(attempt.launch_id, moment)
            if moment - begun < self._context.settings.exit_seconds:  # it has said its last word
                return False
        await self._context.launcher.kill(attempt.launch_id)
        self._clock.over((attempt.job_id, attempt.number))
        async with UnitOfWork(self._context.database) as uow:
            await self._close(uow, attempt, how_it_ended(probe))
            await uow.commit()
        self._forget(attempt)
        return True

    async def _close(self, uow: UnitOfWork, attempt: Attempt, how: str) -> None:
        await self._context.store(uow).change_attempt(attempt, state=AttemptState.ENDED, end_time=now(), ending=how)

    def _forget(self, attempt: Attempt) -> None:
        self._context.leases.forget(attempt.launch_id)
        self._context.obeying.discard(attempt.launch_id)
        self._since.pop(attempt.launch_id, None)


def how_it_ended(probe: Probe) -> str:
    """Return the end of a worker in plain words."""
    if probe.error:
        return f"The worker could not be started: {probe.error}."
    if probe.state is ProbeState.RUNNING:
        return "The worker was killed."
    code = probe.exit_code
    if code is None:
        return "The worker is gone without a trace of how it ended."
    if code < 0:
        return f"The worker was killed by {signal_name(-code)}."
    return f"The worker ended with exit code {code}."


def signal_name(number: int) -> str:
    """Return the name of a signal."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
