"""Models become usable, or say in words why not: imports and presets, with the real program that prepares them."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from modelry.common.v1 import common_pb2
from modelry.registry.v1 import registry_pb2 as pb
from services.chassis.launch import ProbeState
from tests.integration.registry.world import PROJECT, State, World

pytestmark = pytest.mark.integration


def without(folder: Path, target: Path, pattern: str) -> Path:
    """A copy of a model that lacks the files of a pattern."""
    return Path(shutil.copytree(folder, target, ignore=shutil.ignore_patterns(pattern)))


async def program_of(world: World, version: pb.ModelVersion, attempt: int) -> str:
    """The program of an attempt, once it runs."""
    program = f"prepare-{version.id}-{attempt}"
    async with asyncio.timeout(30):
        while (await world.launcher.probe(program)).state is not ProbeState.RUNNING:
            await asyncio.sleep(0.01)
    return program


async def test_imports_go_on_without_the_service_and_a_broken_one_says_what_is_missing(
    world: World, tiny_model: Path, tmp_path: Path
) -> None:
    folders = {
        "good": tiny_model,
        "no-config": without(tiny_model, tmp_path / "no-config", "config.json"),
        "no-tokenizer": without(tiny_model, tmp_path / "no-tokenizer", "tokenizer*"),
    }
    for name, folder in folders.items():
        version = await world.import_folder(name, folder)
        assert version.state == State.PREPARING
        await program_of(world, version, 1)
    await world.stop()
    await world.start()
    good = await world.prepared("good")
    assert good.state == State.READY, good.failure.message
    assert (good.architecture, good.context_length) == ("LlamaForCausalLM", 1024)
    assert good.parameter_count > 100_000 and good.size_bytes > 200_000
    async with world.context.reading() as uow:
        attempts = sorted(one.attempts for one in await uow.versions.select())
    assert attempts == [0, 1, 1, 1]  # the preset, and the imports
    stored = world.stored(f"models/{PROJECT}/{good.id}/weights/")
    assert {"config.json", "model.safetensors", "tokenizer.json", "modelry.json"} <= stored
    assert (await world.resolve("good")).files.digest == good.digest
    words = {"no-config": "there is no config.json", "no-tokenizer": "the tokenizer cannot be loaded"}
    for name, what in words.items():
        broken = await world.prepared(name)
        assert (broken.state, broken.failure.reason) == (State.FAILED, "INVALID_MODEL")
        assert broken.failure.kind == common_pb2.Failure.USER
        assert broken.failure.message.startswith(f"This is no model that can be used: {what}")
        assert world.stored(f"models/{PROJECT}/{broken.id}/") == set()


async def test_a_preset_that_cannot_be_prepared_is_available_again_and_may_be_repeated(
    world: World, tiny_model: Path
) -> None:
    without(tiny_model, world.preset_folder, "*.safetensors")
    prepare = pb.PrepareModelRequest(model="small")
    assert (await world.call("PrepareModel", prepare)).state == State.PREPARING
    failed = await world.prepared("small")
    assert (failed.state, failed.failure.reason) == (State.AVAILABLE, "INVALID_MODEL")
    assert "missing weights: model.safetensors" in failed.failure.message
    assert (await world.resolve("small", "ftjob-1")).version.state == State.AVAILABLE

    shutil.copy(tiny_model / "model.safetensors", world.preset_folder)
    version = await world.call("PrepareModel", prepare)
    assert version.state == State.PREPARING
    await world.launcher.kill(await program_of(world, version, 1))  # what breaks off is begun anew
    ready = await world.prepared("small")
    assert (ready.state, ready.failure.message) == (State.READY, "")
    assert await world.call("PrepareModel", prepare) == ready


async def test_a_preparation_that_breaks_off_is_not_begun_without_end(world: World, tiny_model: Path) -> None:
    lost = await world.import_folder("lost", tiny_model)
    for attempt in (1, 2):
        await world.launcher.kill(await program_of(world, lost, attempt))
    failed = await world.prepared("lost")
    assert (failed.state, failed.failure.reason) == (State.FAILED, "PREPARATION_BROKE_OFF")
    assert failed.failure.kind == common_pb2.Failure.SYSTEM
    assert failed.failure.message == f"It broke off 2 times; the logs of prepare-{lost.id}-2 say why."
