"""Jobs survive the death of everything around them. Each test bears the name of its line in the promises."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import nats
import pytest

from deploy.local.testing import RealNats
from services.chassis.jobs import JobNotActive, JobSettings, State
from services.chassis.launch import ProbeState
from services.chassis.launch import shim as shim_module
from tests.toy_jobs import PROJECT, Toy, ToyService, eventually, running, toy_settings

pytestmark = pytest.mark.chaos
LONGER_THAN_EVERY_LIMIT = 5.0


@pytest.fixture
async def own_nats(tmp_path: Path) -> AsyncIterator[RealNats]:
    with RealNats(tmp_path / "nats") as server:
        yield server


def the_settings(tmp_path: Path, server: RealNats) -> JobSettings:
    return toy_settings(
        tmp_path / "home",
        nats_url=server.url,
        nats_password=server.passwords["services"],
        token_secret=server.token_secret,
    )


async def terminal_events(server: RealNats, job_id: str) -> list[str]:
    """The terminal events of a job that are on the bus."""
    client = await nats.connect(server.url, user="services", password=server.passwords["services"])
    try:
        subscription = await client.jetstream().subscribe(f"modelry.events.*.job.{job_id}.>", ordered_consumer=True)
        found = []
        while True:
            try:
                message = await subscription.next_msg(timeout=1)
            except nats.errors.TimeoutError:
                return found
            body = json.loads(message.data)
            if body["terminal"]:
                found.append(body["happening"])
    finally:
        await client.close()


@asynccontextmanager
async def separate(
    tmp_path: Path, server: RealNats, **config: Any
) -> AsyncIterator[tuple[subprocess.Popen[str], JobSettings]]:
    """The service as a process of its own."""
    settings = the_settings(tmp_path, server)
    values = settings.model_dump(mode="json")
    values |= {"nats_password": server.passwords["services"], "token_secret": server.token_secret}
    secrets = ("objects_secret_key", "vault_key")
    path = tmp_path / "service.json"
    path.write_text(json.dumps({"settings": {k: v for k, v in values.items() if k not in secrets}, **config}))
    log = (tmp_path / "service.log").open("a")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.toy_service", str(path)],
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), str(Path.cwd() / "sdk")])},
    )
    try:
        yield process, settings
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)
        log.close()


async def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return (await asyncio.to_thread(process.stdout.readline)).strip()


async def gone(service: ToyService, launch_id: str) -> bool:
    return (await service.launcher.probe(launch_id)).state is not ProbeState.RUNNING


async def test_finished_published_while_the_service_is_down_longer_than_the_lease_makes_no_second_attempt(
    tmp_path: Path, own_nats: RealNats
) -> None:
    gate = tmp_path / "gate"
    service = ToyService(the_settings(tmp_path, own_nats))
    await service.start()
    job = await service.create(steps=5, gate=str(gate), close_seconds=20)
    await eventually(lambda: measured(service, job, 5))
    await service.stop()

    async with running_gate(tmp_path, own_nats):  # a worker needs somebody who knows it
        gate.touch()
        await eventually(lambda: gone(service, f"{job.id}-1"))
    await asyncio.sleep(service.settings.lease_seconds + 1)

    async with running(ToyService(service.settings)) as later:
        done = await later.ended(job.id)
        assert (done.state, done.attempt, done.steps_done) == (State.SUCCEEDED, 1, 5)
        assert len(await later.engine.attempts(job.id)) == 1
        assert await terminal_events(own_nats, job.id) == ["succeeded"]


@asynccontextmanager
async def running_gate(tmp_path: Path, server: RealNats) -> AsyncIterator[None]:
    from services.chassis.bus import Bus, WorkerGate

    settings = the_settings(tmp_path, server)
    bus = Bus(settings)
    gate = WorkerGate(bus, settings.token_secret)
    await bus.start()
    await gate.start()
    try:
        yield
    finally:
        await gate.stop()
        await bus.close()


async def measured(service: ToyService, job: Toy, step: int) -> bool:
    points = await service.engine.metrics(job.id)
    return bool(points) and points[-1].step >= step


async def test_a_worker_that_goes_on_while_the_service_is_down_is_attached_again(
    tmp_path: Path, own_nats: RealNats
) -> None:
    service = ToyService(the_settings(tmp_path, own_nats))
    await service.start()
    job = await service.create(steps=200, step_seconds=0.05)
    await eventually(lambda: measured(service, job, 3))
    await service.stop()
    await asyncio.sleep(service.settings.lease_seconds + 1)
    async with running(ToyService(service.settings)) as later:
        done = await later.ended(job.id)
        assert (done.state, done.attempt) == (State.SUCCEEDED, 1)
        assert [point.step for point in await later.engine.metrics(job.id)] == list(range(1, 201))


async def test_service_killed_between_spawn_and_commit(tmp_path: Path, own_nats: RealNats) -> None:
    config = {"die": "spawn", "create": {"steps": 60, "step_seconds": 0.05}}
    async with separate(tmp_path, own_nats, **config) as (process, settings):
        job_id = await first_line(process)
        assert await asyncio.to_thread(process.wait, 20) == -signal.SIGKILL

    async with running(ToyService(settings)) as service:
        assert (await service.launcher.probe(f"{job_id}-1")).state is ProbeState.RUNNING
        done = await service.ended(job_id)
        assert (done.state, done.attempt) == (State.SUCCEEDED, 1)
        assert await terminal_events(own_nats, job_id) == ["succeeded"]


async def test_pid_reused(tmp_path: Path, own_nats: RealNats) -> None:
    """The worker is dead and its pid belongs to somebody else, who is neither believed nor harmed."""
    service = ToyService(the_settings(tmp_path, own_nats))
    await service.start()
    job = await service.create(steps=400, step_seconds=0.02, checkpoint_every=10)
    await service.until(job.id, lambda one: one.checkpoint_step >= 10)
    await service.stop()
    await service.launcher.kill(f"{job.id}-1")

    innocent = subprocess.Popen(["sleep", "60"])
    try:
        path = service.settings.home / "work" / f"{job.id}-1" / "process.json"
        who = json.loads(path.read_text())
        who["shim"]["pid"] = who["program"]["pid"] = innocent.pid
        path.write_text(json.dumps(who))
        assert shim_module.read_stat(innocent.pid) is not None
        async with running(ToyService(service.settings)) as later:
            done = await later.ended(job.id, seconds=60)
            assert (done.state, done.attempt) == (State.SUCCEEDED, 2)
            assert [point.step for point in await later.engine.metrics(job.id)] == list(range(1, 401))
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


async def test_nats_away_longer_than_every_limit_services_started_meanwhile_all_go_on(
    tmp_path: Path, own_nats: RealNats
) -> None:
    service = ToyService(the_settings(tmp_path, own_nats))
    await service.start()
    before = await service.create(steps=200, step_seconds=0.06, checkpoint_every=20)
    await eventually(lambda: measured(service, before, 3))
    own_nats.stop()
    await service.stop()
    async with running(ToyService(service.settings)) as later:
        # Made, run and finished without a bus: the spool tells the same.
        meanwhile = await later.create(steps=5)
        assert (await later.ended(meanwhile.id)).state is State.SUCCEEDED
        await asyncio.sleep(LONGER_THAN_EVERY_LIMIT)
        own_nats.start()
        done = await later.ended(before.id, seconds=60)
        assert (done.state, done.attempt) == (State.SUCCEEDED, 1)
        assert [point.step for point in await later.engine.metrics(before.id)] == list(range(1, 201))
        for job in (before, meanwhile):
            await eventually(lambda one=job: published(own_nats, one))


async def published(server: RealNats, job: Toy) -> bool:
    return await terminal_events(server, job.id) == ["succeeded"]


async def test_a_worker_killed_again_and_again_fails_after_three_attempts_without_a_checkpoint(
    tmp_path: Path, own_nats: RealNats
) -> None:
    async with running(ToyService(the_settings(tmp_path, own_nats))) as service:
        job = await service.create(steps=50, checkpoint_every=10, die_at=[13, 15, 16, 17])
        done = await service.ended(job.id)
        # The first attempt recorded a checkpoint at step 10; the next three did not get to 20.
        assert (done.state, done.attempt, done.checkpoint_step) == (State.FAILED, 4, 10)
        assert done.failure is not None and "3 attempts in a row" in done.failure.message
        await eventually(lambda: one_end(own_nats, job, "failed"))


async def one_end(server: RealNats, job: Toy, happening: str) -> bool:
    return await terminal_events(server, job.id) == [happening]


async def test_the_service_killed_again_and_again_while_a_job_runs(tmp_path: Path, own_nats: RealNats) -> None:
    config: dict[str, Any] = {"create": {"steps": 150, "step_seconds": 0.05, "checkpoint_every": 10}}
    job_id = ""
    for _ in range(3):
        async with separate(tmp_path, own_nats, **config) as (process, settings):
            job_id = job_id or await first_line(process)
            config = {}
            await asyncio.sleep(1.5)
            process.kill()
            await asyncio.to_thread(process.wait)
    async with running(ToyService(settings)) as service:
        done = await service.ended(job_id, seconds=60)
        assert (done.state, done.attempt) == (State.SUCCEEDED, 1)
        assert [point.step for point in await service.engine.metrics(job_id)] == list(range(1, 151))
        assert await terminal_events(own_nats, job_id) == ["succeeded"]


async def test_stop_crossing_finish(tmp_path: Path, own_nats: RealNats) -> None:
    """Stops at every moment around the end: one terminal event each, and it is the state's."""
    async with running(ToyService(the_settings(tmp_path, own_nats))) as service:
        jobs = []
        for delay in (0.0, 0.2, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7):
            job = await service.create(steps=8, step_seconds=0.01)
            await asyncio.sleep(delay)
            with suppress(JobNotActive):  # it finished before
                await service.stop_job(job.id)
            jobs.append(await service.ended(job.id))
        for job in jobs:
            assert job.state in (State.SUCCEEDED, State.STOPPED)
            ends = [event["happening"] for event in await service.outbox(job.id) if event["terminal"]]
            assert ends == [job.state.lower()]
        assert await service.engine.job(PROJECT, jobs[0].id)
