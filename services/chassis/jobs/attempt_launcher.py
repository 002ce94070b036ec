"""From a granted token to a running worker: folder, spec.json, launcher."""

import asyncio
import json
import secrets
from pathlib import Path
from typing import Any, Generic, TypeVar

from services.chassis import telemetry
from services.chassis.bus import worker_login
from services.chassis.clock import now
from services.chassis.data import UnitOfWork
from services.chassis.errors import Unavailable
from services.chassis.jobs.context import EngineContext
from services.chassis.jobs.domain import START, WAITING, Attempt, AttemptState, JobCore
from services.chassis.jobs.stage import Plan
from services.chassis.launch import NEVER_FITS, PROGRAM_SPEC_FILE, Demand, Handle, LaunchSpec, write_spec
from services.chassis.objects import StoreAccess

J = TypeVar("J", bound=JobCore)
SPEC_FORMAT = 1
SECRET_BYTES = 8


class AttemptLauncher(Generic[J]):
    """Grant tokens and start workers. The order is: token committed, worker started, start committed; a crash
    between any two is mended by the next tick, because a start with the same id is never done twice."""

    def __init__(self, context: EngineContext[J]) -> None:
        self._context = context

    async def grant(self, job: J) -> tuple[J, Attempt] | None:
        """Give the job's next attempt its token; None when the job no longer waits for one."""
        granted: list[Attempt] = []

        async def rule(uow: UnitOfWork, current: J) -> list[J]:
            granted.clear()
            if current.state not in WAITING or current.token:
                return []
            store = self._context.store(uow)
            after = current.grant(await store.next_token(), now())
            attempt = coming(after)
            await store.add_attempt(attempt)
            await store.drop_points(after.id, attempt.resume_step)
            await self._context.stage.granted(uow, after, attempt)
            granted.append(attempt)
            return [after]

        after = await self._context.change(job.id, rule)
        return (after, granted[0]) if after is not None and granted else None

    async def start(self, job: J, attempt: Attempt, plan: Plan) -> Handle:
        """Start the attempt's worker, or find it started. Raises Unavailable without a free slot."""
        folder = self._context.folder(attempt)
        cache = await self._context.launcher.cache(job.project)
        await asyncio.to_thread(write_spec, folder, self._spec(job, attempt, plan, cache))
        return await self._context.launcher.start(
            LaunchSpec(
                id=attempt.launch_id,
                argv=[*plan.argv, str(folder)],
                env=plan.env,
                folder=folder,
                cpus=plan.cpus,
                memory_mb=plan.memory_mb,
                gpus=plan.gpus,
                ranks=plan.ranks,
                most_cpus=plan.most_cpus,
                project=job.project,
                what=f"{self._context.stage.resource or self._context.stage.name} {job.id}",
            )
        )

    async def running(self, attempt: Attempt) -> J | None:
        """Note that the attempt's worker was seen running: the job runs, if the attempt still holds its token."""

        async def rule(uow: UnitOfWork, current: J) -> list[J]:
            if current.token != attempt.token:
                return []
            if attempt.state is AttemptState.STARTING:
                await self._context.store(uow).change_attempt(attempt, state=AttemptState.RUNNING)
            if current.state not in WAITING:
                return []
            return [current.apply(START, now(), f"Attempt {attempt.number} runs.")]

        return await self._context.change(attempt.job_id, rule)

    async def fits(self, job: J, plan: Plan) -> tuple[str, bool]:
        """Return why the plan cannot start now, in plain words (empty: it can), and whether it ever could here."""
        demand = Demand(plan.cpus, plan.memory_mb, plan.gpus, most_cpus=plan.most_cpus)
        try:
            await self._context.launcher.check(demand, job.project)
        except Unavailable as error:
            return error.message, error.reason != NEVER_FITS
        return "", True

    def _spec(self, job: J, attempt: Attempt, plan: Plan, cache: Path) -> dict[str, Any]:
        settings, name = self._context.settings, self._context.stage.name
        system = StoreAccess.of_settings(settings)
        stores = {"system": system, "output": plan.output or system, **plan.stores}
        trace: dict[str, str] = {}
        telemetry.inject(trace)
        return {
            "format": SPEC_FORMAT,
            "stage": name,
            "job_id": job.id,
            "project": job.project,
            "attempt": attempt.number,
            "token": attempt.token,
            "secret": attempt.secret,
            "subject": f"modelry.work.{name}.{job.id}",
            "heartbeat_subject": f"modelry.heartbeat.{name}.{job.id}",
            "heartbeat_seconds": settings.heartbeat_seconds,
            "nats": {"url": settings.nats_url, **worker_login(settings.token_secret, job.id)},
            "stores": {key: access.to_json() for key, access in stores.items()},
            "cache_dir": str(cache),
            "trace": trace,
            "work": dict(plan.work),
        }


def coming(job: JobCore) -> Attempt:
    """Return the attempt that the job's newest token belongs to, with a secret of its own."""
    return Attempt(
        job_id=job.id,
        number=job.attempt,
        token=job.token,
        create_time=now(),
        resume_checkpoint_id=job.checkpoint_id,
        resume_step=job.checkpoint_step,
        secret=secrets.token_hex(SECRET_BYTES),
    )


def stage_of(folder: Path) -> str:
    """Return the stage whose attempt a folder is; empty for anything else."""
    try:
        return str(json.loads((folder / PROGRAM_SPEC_FILE).read_text(encoding="utf-8")).get("stage", ""))
    except (OSError, ValueError, AttributeError):
        return ""
