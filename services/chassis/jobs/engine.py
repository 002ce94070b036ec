"""The engine of one stage's jobs: what a service makes, starts, asks and stops."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.chassis.bus import Bus
from services.chassis.data import Database, Page, PageQuery, UnitOfWork, Watchers
from services.chassis.jobs.attempt_launcher import AttemptLauncher, stage_of
from services.chassis.jobs.context import EngineContext
from services.chassis.jobs.domain import Attempt, AttemptState, JobCore
from services.chassis.jobs.lease import Leases
from services.chassis.jobs.reconcile import Reconciler
from services.chassis.jobs.report_listener import ReportListener
from services.chassis.jobs.reports import Reports, SpoolReader
from services.chassis.jobs.settings import JobSettings
from services.chassis.jobs.stage import Stage
from services.chassis.jobs.store import JobTables, MetricPoint, Progress
from services.chassis.launch import Launcher
from services.chassis.masking import mask
from services.chassis.readiness import Lack
from services.chassis.reporting import read_spool
from services.chassis.rpc import opened

J = TypeVar("J", bound=JobCore)
_log = logging.getLogger(__name__)
_FOLLOW_SECONDS = 0.5
_LOG_BYTES = 65536


@dataclass(frozen=True)
class JobView(Generic[J]):
    """A job with what changes too often to be part of it; `values` are the newest of each metric."""

    job: J
    progress: Progress | None
    values: Mapping[str, float]
    run_seconds: float


class JobEngine(Generic[J]):
    """Run a stage's jobs from QUEUED to their one end. One per stage and database."""

    def __init__(
        self,
        stage: Stage[J],
        tables: JobTables,
        database: Database,
        bus: Bus,
        launcher: Launcher,
        settings: JobSettings,
        spool: SpoolReader = read_spool,
    ) -> None:
        leases = Leases(settings.lease_seconds, start_seconds=settings.start_seconds)
        self._context = EngineContext(stage, database, launcher, settings, tables, leases)
        self._reports = Reports(self._context, spool)
        self._report_listener = ReportListener(self._context, bus, self._reports)
        self._reconciler = Reconciler(
            self._context, AttemptLauncher(self._context), self._reports, self._report_listener, self._clean
        )

    @property
    def watchers(self) -> Watchers[J]:
        """Tell it of every change that an operation commits: `watchers.notify(job.id, job)`."""
        return self._context.watchers

    @property
    def counts(self) -> Counter[str]:
        """Number of reports that changed nothing, by reason: `ignored`, `repeated`, `malformed`."""
        return self._context.counts

    async def start(self) -> None:
        """Begin to look after the jobs; return at once, also without NATS."""
        await self._report_listener.start()
        await self._reconciler.start()

    async def stop(self) -> None:
        """Stop looking after the jobs. Their workers go on."""
        await self._reconciler.stop()
        await self._report_listener.stop()

    def degraded(self) -> list[Lack]:
        """Return the loops that keep failing."""
        return [*self._reconciler.degraded(), *self._report_listener.degraded()]

    def kick(self) -> None:
        """Look now instead of within a second."""
        self._reconciler.kick()

    async def watch(
        self,
        project: str,
        ref: str,
        after_version: int = 0,
        over: Callable[[J], bool] = lambda job: job.state.ended,
    ) -> AsyncIterator[J]:
        """Yield the job as it is, then each newer version, and the same one when its progress changed; end with it.

        `over` says of which version nothing follows. Raises: NotFound
        """
        job = await self.job(project, ref)

        async def read() -> J:
            return await self.job(project, job.id)

        async for seen in self.watchers.follow(job.id, read, over, after_version, pulses=True):
            yield seen

    async def job(self, project: str, ref: str) -> J:
        """Return one job. Raises NotFound."""
        async with UnitOfWork(self._context.database, write=False) as uow:
            return await self._context.stage.jobs(uow).get(project, ref)

    async def jobs(self, project: str, query: PageQuery) -> Page[J]:
        """Return a page of the jobs of a project, newest first. Raises: Invalid."""
        async with UnitOfWork(self._context.database, write=False) as uow:
            return await self._context.stage.jobs(uow).list(project, query)

    async def views(self, jobs: Sequence[J]) -> list[JobView[J]]:
        """Return jobs with their progress, newest metrics and running time."""
        async with UnitOfWork(self._context.database, write=False) as uow:
            progress = await self._context.store(uow).progress([job.id for job in jobs])
            values = [await self._context.store(uow).newest_values(job.id) for job in jobs]
        seconds = [await self.run_seconds(job.id) for job in jobs]
        return [
            JobView(job, progress.get(job.id), newest, ran)
            for job, newest, ran in zip(jobs, values, seconds, strict=True)
        ]

    async def progress(self, job_ids: Sequence[str]) -> dict[str, Progress]:
        """Return the newest progress of jobs, by id."""
        async with UnitOfWork(self._context.database, write=False) as uow:
            return await self._context.store(uow).progress(job_ids)

    async def attempts(self, job_id: str) -> list[Attempt]:
        """Return the attempts of a job, oldest first."""
        async with UnitOfWork(self._context.database, write=False) as uow:
            return await self._context.store(uow).attempts(job_id)

    async def run_seconds(self, job_id: str) -> float:
        """Return how long the job's workers ran, in all attempts, up to now."""
        pending = self._reconciler.clock.pending
        return sum(one.run_seconds + pending((job_id, one.number)) for one in await self.attempts(job_id))

    async def metrics(self, job_id: str, *, after_step: int = -1, limit: int = 1000) -> list[MetricPoint]:
        """Return metric points by step, those after `after_step`."""
        async with UnitOfWork(self._context.database, write=False) as uow:
            return await self._context.store(uow).points(job_id, after_step=after_step, limit=limit)

    async def follow_metrics(self, project: str, ref: str, *, after_step: int = -1) -> AsyncIterator[MetricPoint]:
        """Yield metric points as they come, until the job ends. A step comes again only when it has new values."""
        job = await self.job(project, ref)
        sent: dict[int, dict[str, float]] = {}
        sequence = 0
        await opened()
        with self.watchers.subscribe(job.id) as queue:
            while True:
                ended = (await self.job(project, job.id)).state.ended
                async with UnitOfWork(self._context.database, write=False) as uow:
                    points = await self._context.store(uow).points(
                        job.id, after_step=after_step, after_sequence=sequence, limit=1_000_000
                    )
                for point in points:
                    sequence = max(sequence, point.sequence)
                    if sent.get(point.step) != point.values:
                        sent[point.step] = dict(point.values)
                        yield point
                if ended:
                    return
                await self.watchers.wait(queue, 5.0)

    async def logs(self, project: str, ref: str, follow: bool = False) -> AsyncIterator[tuple[int, str]]:
        """Yield (attempt, line) of all attempts, oldest first; with `follow` until the job ends.

        Raises: NotFound
        """
        job = await self.job(project, ref)
        number = 0
        await opened()
        while True:
            attempts = [one for one in await self.attempts(job.id) if one.number > number]
            for attempt in attempts:
                async for line in self._log(job.id, attempt, follow):
                    yield attempt.number, line
                number = attempt.number
            if not follow or (await self.job(project, job.id)).state.ended:
                return
            await asyncio.sleep(_FOLLOW_SECONDS)

    async def _log(self, job_id: str, attempt: Attempt, follow: bool) -> AsyncIterator[str]:
        offset, rest = 0, ""
        while True:
            # Asked first: what is written before the end is read after it.
            over = not follow or await self._over(job_id, attempt)
            chunk = await self._context.launcher.logs(attempt.launch_id, offset, _LOG_BYTES)
            offset = chunk.next_offset or offset
            *lines, rest = (rest + chunk.text).split("\n")
            for line in lines:
                yield mask(line)
            if chunk.text:
                continue
            if over:
                break
            await asyncio.sleep(_FOLLOW_SECONDS)
        if rest:
            yield mask(rest)

    async def _over(self, job_id: str, attempt: Attempt) -> bool:
        async with UnitOfWork(self._context.database, write=False) as uow:
            now = await self._context.store(uow).attempt(job_id, attempt.number)
        return now is None or now.end_time is not None

    async def end_workers(self, job_id: str) -> None:
        """Kill what still runs of an ended job, such as a worker that is just exiting. Raises: Unavailable."""
        for attempt in await self.attempts(job_id):
            if attempt.state is not AttemptState.ENDED:
                await self._context.launcher.kill(attempt.launch_id)

    async def remove(self, uow: UnitOfWork, job_id: str) -> list[str]:
        """Remove the engine's rows of a job that is being deleted; return the launch ids to `forget` afterwards."""
        store = self._context.store(uow)
        launch_ids = [attempt.launch_id for attempt in await store.attempts(job_id)]
        await store.remove(job_id)
        return launch_ids

    async def forget(self, launch_ids: Sequence[str]) -> None:
        """Drop the folders of a deleted job's attempts; a worker that is just ending is not waited for."""
        for launch_id in launch_ids:
            await self._context.launcher.kill(launch_id)
            await self._context.launcher.forget(launch_id)

    async def _clean(self) -> None:
        """Drop what a crash left of this stage's deleted jobs."""
        for probe in await self._context.launcher.list():
            if probe.folder is None or await asyncio.to_thread(stage_of, probe.folder) != self._context.stage.name:
                continue
            job_id, _, number = probe.id.rpartition("-")
            async with UnitOfWork(self._context.database, write=False) as uow:
                known = await self._context.store(uow).attempt(job_id, int(number)) if number.isdigit() else None
            if known is None:
                _log.info("the attempt %s belongs to no job any more", probe.id)
                await self.forget([probe.id])
