"""The job engine with a real launcher, NATS and SQLite, and a worker that counts."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from deploy.local.testing import RealNats
from services.chassis.errors import Denied
from services.chassis.jobs import (
    JobNotActive,
    Readiness,
    State,
)
from services.chassis.transitions import FailureKind
from tests.toy_jobs import PROJECT, Toy, ToyService, ToyStage, eventually, running, toy_settings
from tests.toy_worker import loss

pytestmark = pytest.mark.integration


def a_service(tmp_path: Path, nats: RealNats, stage: ToyStage | None = None, cpus: int = 2) -> ToyService:
    settings = toy_settings(
        tmp_path / "home",
        nats_url=nats.url,
        nats_password=nats.passwords["services"],
        token_secret=nats.token_secret,
    )
    return ToyService(settings, stage, cpus)


async def states(service: ToyService, job: Toy) -> list[str]:
    return [event["happening"] for event in await service.outbox(job.id)]


async def test_a_job_succeeds_and_ends_once(tmp_path: Path, nats_server: RealNats) -> None:
    async with running(a_service(tmp_path, nats_server)) as service:
        job = await service.create(steps=10, checkpoint_every=5)
        done = await service.ended(job.id)
        assert (done.state, done.steps_done, done.attempt, done.checkpoint_step) == (State.SUCCEEDED, 10, 1, 10)
        assert service.stage.settled == [job.id]
        assert await states(service, job) == ["created", "running", "succeeded"]
        assert [event["terminal"] for event in await service.outbox(job.id)] == [False, False, True]
        points = await service.engine.metrics(job.id)
        assert {point.step: point.values["loss"] for point in points} == {step: loss(step) for step in range(1, 11)}
        progress = (await service.engine.progress([job.id]))[job.id]
        assert (progress.done, progress.total) == (10, 10)
        lines = [line async for line in service.engine.logs(PROJECT, job.id)]
        assert lines == [(1, "attempt 1 begins after step 0")]
        assert await service.engine.run_seconds(job.id) > 0
        folder = service.settings.home / "work" / f"{job.id}-1"
        assert os.stat(folder / "spec.json").st_mode & 0o777 == 0o600


async def test_no_secret_is_in_the_log_that_is_shown(tmp_path: Path, nats_server: RealNats) -> None:
    async with running(a_service(tmp_path, nats_server)) as service:
        job = await service.create(steps=1, says='{"x-api-key": "s3cr3t"} https://me:s3cr3t@host')
        await service.ended(job.id)
        lines = [line async for _, line in service.engine.logs(PROJECT, job.id)]
        assert lines[1] == '{"x-api-key": "***"} https://me:***@host'


async def test_metrics_and_progress_never_change_the_version(tmp_path: Path, nats_server: RealNats) -> None:
    async with running(a_service(tmp_path, nats_server)) as service:
        job = await service.create(steps=40)
        done = await service.ended(job.id)
        # queued 1, its token 2, running 3, succeeded 4, settled 5
        assert done.version == 5


async def test_a_watch_shows_every_state_and_ends(tmp_path: Path, nats_server: RealNats) -> None:
    async with running(a_service(tmp_path, nats_server)) as service:
        job = await service.create(steps=10)
        seen = [(one.version, one.state) async for one in service.engine.watch(PROJECT, job.id)]
        assert [version for version, _ in seen] == sorted(version for version, _ in seen)
        assert list(dict.fromkeys(state for _, state in seen)) == [State.QUEUED, State.RUNNING, State.SUCCEEDED]
        points = [point.step async for point in service.engine.follow_metrics(PROJECT, job.id)]
        assert points == list(range(1, 11))


async def test_a_failure_of_the_input_fails_at_once(tmp_path: Path, nats_server: RealNats) -> None:
    async with running(a_service(tmp_path, nats_server)) as service:
        job = await service.create(steps=10, fail_at={"step": 3, "kind": "USER"})
        done = await service.ended(job.id)
        assert (done.state, done.attempt) == (State.FAILED, 1)
        assert done.failure is not None
        assert (done.failure.reason, done.failure.kind) == ("TOY_FAILED", FailureKind.USER)


async def test_a_failure_of_the_system_is_tried_three_times(tmp_path: Path, nats_server: RealNats) -> None:
    async with running(a_service(tmp_path, nats_server)) as service:
        job = await service.create(steps=10, fail_at={"step": 3, "kind": "SYSTEM"})
        done = await service.ended(job.id)
        assert (done.state, done.attempt) == (State.FAILED, 3)
        assert done.failure is not None and done.failure.reason == "TOY_FAILED"


async def test_stop_ends_with_a_checkpoint(tmp_path: Path, nats_server: RealNats) -> None:
    async with running(a_service(tmp_path, nats_server)) as service:
        job = await service.create(steps=10_000)
        await service.until(job.id, lambda one: one.state is State.RUNNING)
        await eventually(lambda: has_points(service, job))
        stopping = await service.stop_job(job.id)
        assert stopping.state is State.STOPPING
        again = await service.stop_job(job.id)
        assert again.state in (State.STOPPING, State.STOPPED)
        done = await service.ended(job.id)
        assert (done.state, done.attempt) == (State.STOPPED, 1)
        assert done.checkpoint_step > 0
        assert "Stopped by its owner." in done.cause
        assert await states(service, job) == ["created", "running", "stopping", "stopped"]


async def has_points(service: ToyService, job: Toy) -> bool:
    return bool(await service.engine.metrics(job.id))


async def test_a_stop_that_is_not_heard_ends_in_a_kill(tmp_path: Path, nats_server: RealNats) -> None:
    service = a_service(tmp_path, nats_server)
    service.settings = service.settings.model_copy(update={"stop_seconds": 1.0})
    async with running(service):
        job = await service.create(steps=10_000, deaf=True)
        await eventually(lambda: has_points(service, job))
        await service.stop_job(job.id)
        done = await service.ended(job.id)
        assert done.state is State.STOPPED
        assert "did not stop" in done.cause


async def test_stop_of_a_queued_job_is_at_once(tmp_path: Path, nats_server: RealNats) -> None:
    async with running(a_service(tmp_path, nats_server, cpus=1)) as service:
        first = await service.create(steps=10_000)
        await service.until(first.id, lambda one: one.state is State.RUNNING)
        second = await service.create(steps=10)
        waiting = await service.until(second.id, lambda one: "free slot" in one.cause)
        assert (waiting.state, waiting.attempt) == (State.QUEUED, 0)
        assert f"Waits since {second.create_time:%Y-%m-%d %H:%M} UTC. " in waiting.cause
        assert "it needs 1 CPU core, and of the 1 on this machine 1 is taken" in waiting.cause
        assert f"Held by job {first.id} since " in waiting.cause and "until it ends" in waiting.cause
        assert (await service.stop_job(second.id)).state is State.STOPPED
        await service.stop_job(first.id)
        await service.ended(first.id)
        with pytest.raises(JobNotActive):
            third = await service.create(steps=1)
            await service.ended(third.id)
            await service.stop_job(third.id)


async def test_waiting_jobs_start_in_the_order_in_which_they_were_made(tmp_path: Path, nats_server: RealNats) -> None:
    async with running(a_service(tmp_path, nats_server, cpus=1)) as service:
        jobs = [await service.create(steps=3) for _ in range(3)]
        done = [await service.ended(job.id) for job in jobs]
        starts = [job.start_time for job in done]
        assert starts == sorted(starts, key=str)
        assert {job.state for job in done} == {State.SUCCEEDED}


async def test_a_killed_worker_resumes_from_its_checkpoint(tmp_path: Path, nats_server: RealNats) -> None:
    async with running(a_service(tmp_path, nats_server)) as service:
        job = await service.create(steps=20, checkpoint_every=5, die_at=[13])
        done = await service.ended(job.id)
        assert (done.state, done.attempt) == (State.SUCCEEDED, 2)
        points = await service.engine.metrics(job.id)
        assert [point.step for point in points] == list(range(1, 21))
        assert all(point.values["loss"] == loss(point.step) for point in points)
        lines = [line async for line in service.engine.logs(PROJECT, job.id)]
        assert lines == [(1, "attempt 1 begins after step 0"), (2, "attempt 2 begins after step 10")]
        first, second = await service.engine.attempts(job.id)
        assert "SIGKILL" in first.ending and second.resume_step == 10
        assert await states(service, job) == ["created", "running", "resuming", "running", "succeeded"]


async def test_a_silent_worker_is_killed_and_followed(tmp_path: Path, nats_server: RealNats) -> None:
    async with running(a_service(tmp_path, nats_server)) as service:
        job = await service.create(steps=12, checkpoint_every=5, hang_at=8)
        done = await service.ended(job.id)
        assert (done.state, done.attempt) == (State.SUCCEEDED, 2)
        assert "silent" in (await service.engine.attempts(job.id))[0].ending


async def test_validating_waits_and_then_queues(tmp_path: Path, nats_server: RealNats) -> None:
    answers = iter([Readiness(False, "The model is being prepared.")] * 3)
    stage = ToyStage(lambda _: next(answers, Readiness(True)))
    async with running(a_service(tmp_path, nats_server, stage)) as service:
        job = await service.create(State.VALIDATING, steps=2)
        assert (await service.ended(job.id)).state is State.SUCCEEDED
        assert await states(service, job) == ["created", "queued", "running", "succeeded"]


async def test_what_cannot_be_prepared_fails_with_its_words(tmp_path: Path, nats_server: RealNats) -> None:
    def refuse(_: Toy) -> Readiness:
        raise Denied("The store refuses access.", reason="STORE_ACCESS_DENIED")

    async with running(a_service(tmp_path, nats_server, ToyStage(refuse))) as service:
        job = await service.create(State.VALIDATING, steps=2)
        done = await service.ended(job.id)
        assert done.failure is not None
        assert (done.failure.reason, done.failure.message) == ("STORE_ACCESS_DENIED", "The store refuses access.")


async def test_a_limit_stops_the_job(tmp_path: Path, nats_server: RealNats) -> None:
    async with running(a_service(tmp_path, nats_server, ToyStage(limit_seconds=1.0))) as service:
        job = await service.create(steps=10_000)
        done = await service.ended(job.id)
        assert done.state is State.STOPPED and "Its time is over." in done.cause


async def test_a_report_with_an_old_token_is_acked_and_counted(tmp_path: Path, nats_server: RealNats) -> None:
    async with running(a_service(tmp_path, nats_server)) as service:
        job = await service.create(steps=3)
        done = await service.ended(job.id)
        before = service.engine.counts["ignored"]
        report = {"format": 1, "job_id": job.id, "attempt": 1, "token": 1, "number": 99, "kind": "finished", "body": {}}
        await service.bus.publish(f"modelry.work.toy.{job.id}", json.dumps(report).encode(), {"Nats-Msg-Id": "old"})

        async def counted() -> bool:
            return service.engine.counts["ignored"] > before

        await eventually(counted)
        assert (await service.engine.job(PROJECT, job.id)).version == done.version


async def test_no_worker_ends_the_job_of_another(tmp_path: Path, nats_server: RealNats) -> None:
    async with running(a_service(tmp_path, nats_server)) as service:
        mine, other = [await service.create(steps=10_000) for _ in range(2)]
        for job in (mine, other):
            await service.until(job.id, lambda one: one.state is State.RUNNING)
        guesses = [(subject, token) for subject in (mine.id, other.id) for token in range(1, 5)]
        for subject, token in guesses:
            word = {"format": 1, "job_id": other.id, "attempt": 1, "token": token, "number": 999, "kind": "finished"}
            data = json.dumps({**word, "body": {}}).encode()
            await service.bus.publish(f"modelry.work.toy.{subject}", data, {"Nats-Msg-Id": f"{subject} {token}"})

        async def refused() -> bool:
            return (service.engine.counts["malformed"], service.engine.counts["ignored"]) == (4, 4)

        await eventually(refused)
        assert (await service.engine.job(PROJECT, other.id)).state is State.RUNNING
        for job in (mine, other):
            await service.stop_job(job.id)
            assert (await service.ended(job.id)).state is State.STOPPED


async def test_every_kill_of_a_worker_by_hand_is_survived(tmp_path: Path, nats_server: RealNats) -> None:
    async with running(a_service(tmp_path, nats_server)) as service:
        job = await service.create(steps=60, step_seconds=0.03, checkpoint_every=5)
        for attempt in (1, 2, 3):
            at = await service.until(job.id, lambda one, n=attempt: one.attempt == n and one.checkpoint_step >= 10 * n)
            probe = await service.launcher.probe(f"{at.id}-{attempt}")
            assert probe.pid is not None
            os.kill(probe.pid, signal.SIGKILL)
        done = await service.ended(job.id)
        assert (done.state, done.attempt) == (State.SUCCEEDED, 4)
        assert [point.step for point in await service.engine.metrics(job.id)] == list(range(1, 61))


async def test_attempts_of_jobs_that_are_gone_are_dropped_at_the_start(tmp_path: Path, nats_server: RealNats) -> None:
    service = a_service(tmp_path, nats_server)
    await service.start()
    job = await service.create(steps=10_000)
    await eventually(lambda: has_points(service, job))
    await service.stop()
    (service.settings.home / "data" / "toy.db").unlink()
    for rest in ("toy.db-wal", "toy.db-shm"):
        (service.settings.home / "data" / rest).unlink(missing_ok=True)
    async with running(ToyService(service.settings)) as later:

        async def dropped() -> bool:
            return not await later.launcher.list()

        await eventually(dropped)


async def test_the_engine_on_postgresql(tmp_path: Path, nats_server: RealNats, postgres_url: str) -> None:
    service = a_service(tmp_path, nats_server)
    service.settings = service.settings.model_copy(update={"database_url": postgres_url})
    async with running(service):
        jobs = [await service.create(steps=20, checkpoint_every=5, die_at=[13]) for _ in range(2)]
        for job in jobs:
            done = await service.ended(job.id)
            assert (done.state, done.attempt) == (State.SUCCEEDED, 2)
            assert [point.step for point in await service.engine.metrics(job.id)] == list(range(1, 21))
