"""A stage for tests of the job engine: jobs that count, on a real database, launcher and bus."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from services.chassis.bus import WorkerGate
from services.chassis.clock import now
from services.chassis.data import (
    Database,
    Repository,
    UnitOfWork,
    chassis_metadata,
    create_chassis_tables,  # noqa: F401 - the migration below imports it
    table_of,
)
from services.chassis.errors import Invalid
from services.chassis.host import ServiceHost
from services.chassis.ids import new_id
from services.chassis.jobs import (
    Attempt,
    JobCore,
    JobEngine,
    JobSettings,
    Plan,
    Readiness,
    Report,
    Stage,
    State,
    add_job_tables,
    changed,
)
from services.chassis.launch import Capacity, LocalLauncher

PROJECT = "proj-1"
WAIT_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Toy(JobCore):
    """A job that counts."""

    name: str = ""
    work: dict[str, Any] = field(default_factory=dict)
    steps_done: int = 0


metadata = chassis_metadata()
TOYS = table_of(Toy, metadata, "toys")
TABLES = add_job_tables(metadata)

MIGRATION = '''"""The toy's tables."""
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    from tests.toy_jobs import metadata
    metadata.create_all(op.get_bind())
'''


class ToyStage(Stage[Toy]):
    """The stage of toys."""

    name = "toy"
    resource = "job"
    table = TOYS

    def __init__(self, ready: Callable[[Toy], Readiness] | None = None, limit_seconds: float = 0.0) -> None:
        self.settled: list[str] = []
        self._ready = ready
        self._limit_seconds = limit_seconds

    def jobs(self, uow: UnitOfWork) -> Repository[Toy]:
        return Repository(uow, TOYS, Toy, "toy")

    async def plan(self, job: Toy, attempt: Attempt) -> Plan:
        resume = {"step": attempt.resume_step} if attempt.resume_checkpoint_id else None
        return Plan(
            [sys.executable, "-m", "tests.toy_worker"], {**job.work, "resume": resume}, most_cpus=1, memory_mb=64
        )

    async def prepare(self, job: Toy) -> Readiness:
        return self._ready(job) if self._ready else Readiness(ready=True)

    async def reported(self, uow: UnitOfWork, job: Toy, report: Report) -> Toy:
        if report.kind == "checkpoint":
            if not report.body.get("checkpoint_id"):
                raise Invalid("checkpoint_id is missing.", field="body.checkpoint_id")
            return job.advance(str(report.body["checkpoint_id"]), int(report.body["step"]), now())
        if report.kind == "finished":
            return replace(job, steps_done=int(report.body["result"]["steps"]))
        return job

    def reason_to_stop(self, job: Toy, run_seconds: float) -> str:
        return "Its time is over." if self._limit_seconds and run_seconds > self._limit_seconds else ""

    async def ended(self, job: Toy) -> None:
        self.settled.append(job.id)


def toy_settings(home: Path, **changes: Any) -> JobSettings:
    """Settings with short windows."""
    short: dict[str, Any] = {
        "service": "toy",
        "home": home,
        "lease_seconds": 2,
        "start_seconds": 8,
        "heartbeat_seconds": 0.3,
        "reconcile_seconds": 0.1,
        "ack_wait_seconds": 2,
        "retry_min_seconds": 0.1,
        "retry_max_seconds": 1,
        "reconnect_max_seconds": 0.2,
        "duplicate_window_seconds": 2,
        "signal_seconds": 0.5,
        "exit_seconds": 2,
        "flush_seconds": 0.5,
        "token_secret": "not a secret, and long enough for tokens",
        "nats_url": "nats://127.0.0.1:1",
    }
    return JobSettings(**{**short, **changes})


class ToyService:
    """The service of toys, as a process would have it."""

    def __init__(self, settings: JobSettings, stage: ToyStage | None = None, cpus: int = 2) -> None:
        self.settings = settings
        self.stage = stage or ToyStage()
        self.launcher = LocalLauncher(settings.home, Capacity(cores=(0, 1)[:cpus], slots=cpus, memory_mb=4096))
        self.database: Database
        self.engine: JobEngine[Toy]

    async def start(self) -> None:
        """Opens everything and begins."""
        migrations = self.settings.home / "migrations"
        (migrations / "versions").mkdir(parents=True, exist_ok=True)
        (migrations / "versions" / "0001_initial.py").write_text(MIGRATION)
        self.host = ServiceHost(self.settings, migrations, self._assemble)
        await self.host.start()

    async def _assemble(self, host: ServiceHost[JobSettings]) -> None:
        self.database, self.bus = host.database, host.bus
        self.engine = JobEngine(self.stage, TABLES, host.database, host.bus, self.launcher, self.settings)
        host.add(WorkerGate(host.bus, self.settings.token_secret), self.engine)

    async def stop(self) -> None:
        """Ends everything; workers go on."""
        await self.host.stop()

    async def create(self, state: State = State.QUEUED, **work: Any) -> Toy:
        """Makes a job."""
        moment = now()
        toy = Toy(id=new_id("ftjob-"), project=PROJECT, create_time=moment, update_time=moment, state=state, work=work)
        async with UnitOfWork(self.database) as uow:
            await self.stage.jobs(uow).add(toy)
            event = changed(self.stage, None, toy)
            assert event is not None
            uow.emit(event)
            await uow.commit()
        self.engine.kick()
        return toy

    async def stop_job(self, job_id: str) -> Toy:
        """The verb."""
        async with UnitOfWork(self.database) as uow:
            before = await self.stage.jobs(uow).get(PROJECT, job_id)
            after = before.stop(now(), "Stopped by its owner.")
            if after is not before:
                await self.stage.jobs(uow).save(after)
                event = changed(self.stage, before, after)
                assert event is not None
                uow.emit(event)
            await uow.commit()
        self.engine.watchers.notify(after.id, after)
        self.engine.kick()
        return after

    async def until(self, job_id: str, true: Callable[[Toy], bool], seconds: float = WAIT_SECONDS) -> Toy:
        """The job once it is so."""
        async with asyncio.timeout(seconds):
            while not true(job := await self.engine.job(PROJECT, job_id)):
                await asyncio.sleep(0.02)
        return job

    async def ended(self, job_id: str, seconds: float = WAIT_SECONDS) -> Toy:
        """The job once it has ended and is settled, and nothing of it runs."""

        async def clean() -> bool:
            return all(one.end_time for one in await self.engine.attempts(job_id))

        job = await self.until(job_id, lambda one: one.state.ended and one.settled, seconds)
        await eventually(clean)
        return job

    async def outbox(self, job_id: str) -> list[dict[str, Any]]:
        """Every event of a job, in order."""
        from sqlalchemy import select

        from services.chassis.data import outbox

        async with UnitOfWork(self.database, write=False) as uow:
            rows = await uow.connection.execute(select(outbox.c.body).order_by(outbox.c.id))
            return [body for (text,) in rows if (body := json.loads(text))["resource_id"] == job_id]


async def eventually(true: Callable[[], Awaitable[bool]], seconds: float = WAIT_SECONDS) -> None:
    """Returns once it is so."""
    async with asyncio.timeout(seconds):
        while not await true():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(service: ToyService) -> AsyncIterator[ToyService]:
    """A started service; at the end nothing of it runs."""
    await service.start()
    try:
        yield service
    finally:
        await service.stop()
        for probe in await service.launcher.list():
            await service.launcher.kill(probe.id)
