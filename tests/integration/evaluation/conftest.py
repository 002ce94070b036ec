"""A world with two tiny models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local.testing import RealNats, RealObjects
from tests.integration.evaluation.world import World
from tests.tiny_model import build_tiny_model


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Two tiny bases, and an adapter of the first."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("models")
    first, second = build_tiny_model(folder / "first"), build_tiny_model(folder / "second", seed=1)
    model: Any = AutoModelForCausalLM.from_pretrained(first)
    torch.manual_seed(0)
    tuned = get_peft_model(model, LoraConfig(r=8, lora_alpha=64, target_modules="all-linear", init_lora_weights=False))
    tuned.save_pretrained(folder / "adapter")
    return first, second, folder / "adapter"


@pytest.fixture
async def world(
    tmp_path: Path, nats_server: RealNats, s3_server: RealObjects, tiny_models: tuple[Path, Path, Path]
) -> AsyncIterator[World]:
    """A running service that knows `base` and `tuned`."""
    world = World(tmp_path, nats_server, s3_server)
    world.add_model("base", tiny_models[0])
    world.add_model("tuned", tiny_models[0], tiny_models[2])
    await world.start()
    try:
        yield world
    finally:
        await world.stop()
