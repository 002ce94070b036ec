"""A job and a watch of it that a sleep of the machine falls into."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from deploy.local.testing import RealNats
from services.chassis.clock import now
from services.chassis.jobs import State
from tests.sleep import JUMPS, before_the_jump
from tests.toy_jobs import PROJECT, Toy, ToyService, running, toy_settings

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("seconds", JUMPS)
async def test_a_job_and_its_watch_go_on_through_a_sleep(tmp_path: Path, nats_server: RealNats, seconds: float) -> None:
    passwords, secret = nats_server.passwords["services"], nats_server.token_secret
    settings = toy_settings(tmp_path, nats_url=nats_server.url, nats_password=passwords, token_secret=secret)
    async with running(ToyService(settings)) as service:

        async def watched() -> list[Toy]:
            return [seen async for seen in service.engine.watch(PROJECT, job.id)]

        with before_the_jump(seconds):
            job = await service.create(steps=30, step_seconds=0.05, checkpoint_every=5)
            watch = asyncio.create_task(watched())
            before = await service.until(job.id, lambda one: one.state is State.RUNNING)
            assert abs((now() - before.create_time).total_seconds()) < 60
        assert abs((now() - before.create_time).total_seconds()) > 60
        done = await service.ended(job.id)
        assert (done.state, done.attempt, done.steps_done) == (State.SUCCEEDED, 1, 30)
        seen = await watch
        versions = [one.version for one in seen]  # progress is told between versions
        assert versions == sorted(versions)
        assert seen[-1].state is State.SUCCEEDED
