"""Which cores an evaluation gets on a machine where something runs."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from deploy.local.testing import RealNats, RealObjects
from modelry.evaluation.v1 import evaluation_pb2 as pb
from services.chassis.launch import LaunchSpec
from tests.integration.evaluation.world import World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


async def test_an_evaluation_begins_beside_a_deployment_that_holds_one_of_two_cores(
    tmp_path: Path, nats_server: RealNats, s3_server: RealObjects, tiny_models: tuple[Path, ...]
) -> None:
    world = World(tmp_path, nats_server, s3_server, cpus=2)
    world.add_model("base", tiny_models[0])
    world.add_model("tuned", tiny_models[0], tiny_models[2])
    sleeper = [sys.executable, "-c", "import signal; signal.pause()"]
    await world.launcher.start(LaunchSpec("rep-1", sleeper, {}, tmp_path / "work" / "rep-1", cpus=1))
    evaluation = pb.Evaluation(
        name="beside",
        baseline=pb.Target(model="base"),
        candidates=[pb.Target(model="tuned")],
        tasks=[pb.Task(preset=pb.Task.Preset(benchmark="mmlu", shots=0))],
    )
    await world.start()
    try:
        await world.create(evaluation)
        async with asyncio.timeout(30):
            request = pb.WatchEvaluationRequest(evaluation="beside")
            async for seen in world.stub.WatchEvaluation(request, metadata=world.metadata()):
                if seen.state == pb.Evaluation.RUNNING:
                    break
        (worker,) = [one for one in await world.launcher.list() if one.id.startswith("eval-")]
        assert worker.cpus == "1"
    finally:
        await world.stop()
