"""While a job trains: its worker, its service, the supervisor alone and everything at once are killed with -9."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.chassis.launch import LocalLauncher, ProbeState
from tests.stack import Stack, Walk

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

STEPS_BETWEEN = 40


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Stack]:
    """An installation of this test alone, with short windows."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "modelry.toml").write_text("lease_seconds = 4.0\nheartbeat_seconds = 1.0\n", "utf-8")
    stack = Stack(home)
    stack.up()
    yield stack
    stack.down()


async def test_a_job_succeeds_whatever_is_killed(own_stack: Stack, tmp_path: Path) -> None:
    walk = Walk(own_stack, tmp_path / "tiny")
    walk.model()
    walk.data()
    recipe = {
        "epochs": 40,
        "batch_size": 1,
        "lora_rank": 4,
        "cutoff_length": 64,
        "checkpoint_interval": 30,
        "checkpoints_kept": 2,
    }
    job = walk.client.create_job(job={"model": "tiny", "datasets": [{"ref": "numbers"}], "hyperparameters": recipe})
    reached = trained_to(own_stack, job.id, STEPS_BETWEEN)
    for kill in (kill_worker, kill_service, kill_supervisor, kill_everything):
        await kill(own_stack, job.id)
        reached = trained_to(own_stack, job.id, reached + STEPS_BETWEEN)
    *_, ended = client(own_stack).watch_job(job=job.id)
    assert ended.failure.message == ""
    assert ended.finish_time.seconds
    check_curve(own_stack, ended)
    check_events(own_stack, job.id)


def client(stack: Stack) -> Any:
    """A new client: the addresses are the same, the connection is not."""
    return stack.client_of("")


def trained_to(stack: Stack, job_id: str, step: int) -> int:
    """Follow the job until it has done so many steps, or has ended."""
    for seen in client(stack).watch_job(job=job_id):
        if seen.progress.step >= step or seen.finish_time.seconds:
            return int(seen.progress.step)
    return step


async def kill_worker(stack: Stack, job_id: str) -> None:
    """The worker's program, not its shim: nobody tells the service."""
    running = [p for p in await LocalLauncher(stack.home).list() if p.state is ProbeState.RUNNING]
    assert len(running) == 1
    assert running[0].pid
    os.kill(running[0].pid, signal.SIGKILL)


async def kill_service(stack: Stack, job_id: str) -> None:
    """The training service; the supervisor starts it again."""
    os.kill(int(stack.state["processes"]["training"]["identity"]["pid"]), signal.SIGKILL)


async def kill_supervisor(stack: Stack, job_id: str) -> None:
    """The supervisor alone; `up` takes over from what it left."""
    os.kill(int(stack.state["supervisor"]["pid"]), signal.SIGKILL)
    stack.up()


async def kill_everything(stack: Stack, job_id: str) -> None:
    """Every process that works in this home, workers too."""
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            mine = str(stack.home) in " ".join(process.cmdline()) or environment.get("MODELRY_HOME") == str(stack.home)
        except (psutil.Error, OSError):
            continue
        if mine and process.pid != os.getpid():
            process.kill()
    stack.up()


def check_curve(stack: Stack, job: Any) -> None:
    """The loss of every step is there, once."""
    steps = [p.step for p in client(stack).read_job_metrics(job=job.id) if "loss" in p.values]
    assert steps == list(range(1, job.progress.total_steps + 1))


def check_events(stack: Stack, job_id: str) -> None:
    """Exactly one terminal event is on the bus."""
    events = client(stack).pages("list_events", "events", resource="job", id=job_id)
    assert [e.happening for e in events if e.happening in ("succeeded", "failed", "stopped")] == ["succeeded"]
