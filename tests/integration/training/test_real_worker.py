"""The service with the worker that really trains, on a tiny model."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from deploy.local.testing import RealNats, RealObjects
from modelry.training.v1 import training_pb2 as pb
from services.chassis.objects import StoredFiles, upload_folder
from services.clients.dataset import DatasetInfo
from services.clients.registry import ModelInfo
from services.training.specs import worker_argv
from tests.integration.training.world import World, running
from tests.tiny_model import build_tiny_model

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
State = pb.Job.State
ROWS = 48


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("base") / "model")


def write_rows(folder: Path) -> Path:
    """Questions and answers in the canonical form."""
    folder.mkdir(parents=True)
    rows = [
        [{"role": "user", "content": f"What is {n} + {n}?"}, {"role": "assistant", "content": f"It is {2 * n}."}]
        for n in range(ROWS)
    ]
    columns = {
        "line": pa.array(range(1, ROWS + 1), pa.int64()),
        "messages": pa.array([json.dumps(row) for row in rows], pa.string()),
        "tools": pa.array([None] * ROWS, pa.string()),
    }
    parquet.write_table(pa.table(columns), folder / "data.parquet")
    return folder


@pytest.fixture
async def real(tmp_path: Path, nats_server: RealNats, s3_server: RealObjects, tiny_model: Path) -> AsyncIterator[World]:
    world = World(
        tmp_path / "home", nats_server, s3_server, worker_argv, lease_seconds=30, start_seconds=120, exit_seconds=20
    )
    world.objects.ensure_bucket(world.bucket)
    model = upload_folder(world.objects, world.bucket, f"{tmp_path.name}/model", tiny_model)
    data = upload_folder(world.objects, world.bucket, f"{tmp_path.name}/data", write_rows(tmp_path / "data"))
    base = StoredFiles(world.bucket, f"{tmp_path.name}/model", json.dumps(model.to_json()))
    world.others.registry.add(
        ModelInfo(
            version_id="mv-tiny",
            state="READY",
            parameter_count=300_000,
            context_length=1024,
            files=base,
            digest=model.digest,
        ),
        "tiny",
    )
    world.others.datasets.add(
        DatasetInfo(
            version_id="dsv-sums",
            dataset_name="support",
            number=1,
            files=StoredFiles(world.bucket, f"{tmp_path.name}/data", json.dumps(data.to_json())),
            file="data.parquet",
            row_count=ROWS,
            token_count=1500,
        )
    )
    async with running(world):
        yield world


def hyperparameters(**changes: object) -> pb.Hyperparameters:
    values = {"batch_size": 4, "compute_type": pb.Hyperparameters.FP32, "lora_rank": 4, "cutoff_length": 128}
    return pb.Hyperparameters(**{**values, **changes})


async def curve(world: World, job_id: str) -> dict[int, float]:
    request = pb.ReadJobMetricsRequest(job=job_id)
    points = [one async for one in world.training.ReadJobMetrics(request, metadata=world.metadata())]
    return {one.step: one.values["loss"] for one in points}


async def ended(world: World, job_id: str) -> pb.Job:
    await world.until(job_id, lambda one: one.state in (State.SUCCEEDED, State.FAILED, State.STOPPED), seconds=240)
    return await world.ended(job_id)


async def test_a_killed_job_has_the_curve_of_one_that_was_not(real: World) -> None:
    wish = hyperparameters(epochs=20, checkpoint_interval=20)
    whole = await real.create(hyperparameters=wish)
    done = await ended(real, whole.id)
    assert (done.state, done.failure.message) == (State.SUCCEEDED, "")
    expected = await curve(real, whole.id)
    assert list(expected) == list(range(1, 241))

    killed = await real.create(hyperparameters=wish, publish_on_success=pb.PublishOnSuccess(model_name="sums"))
    await real.until(killed.id, lambda one: one.progress.step > 45, seconds=120)
    probe = await real.launcher.probe(f"{killed.id}-1")
    assert probe.pid is not None
    os.kill(probe.pid, signal.SIGKILL)
    done = await ended(real, killed.id)
    assert (done.state, done.attempt_count) == (State.SUCCEEDED, 2)
    assert await curve(real, killed.id) == expected
    assert real.others.registry.published[0].chat_fingerprint
    names = [file["path"] for file in json.loads(real.others.registry.published[0].files.manifest_json)["files"]]
    assert "adapter_config.json" in names and "adapter_model.safetensors" in names


async def test_two_ranks_stop_with_a_checkpoint(real: World) -> None:
    job = await real.create(hyperparameters=hyperparameters(epochs=1000, world_size=2, checkpoint_interval=100_000))
    await real.until(job.id, lambda one: one.progress.step > 5 or one.state > State.RUNNING, seconds=200)
    stopping = await real.training.StopJob(pb.StopJobRequest(job=job.id), metadata=real.metadata())
    assert stopping.state == State.STOPPING
    done = await ended(real, job.id)
    assert done.state == State.STOPPED and done.attempt_count == 1
    assert done.best_checkpoint_id, done.cause
