"""A world with one tiny model."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from deploy.local.testing import RealNats, RealObjects
from services.chassis.bus import Bus
from services.chassis.settings import Settings
from tests.integration.training.worker.world import World
from tests.tiny_model import build_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base."""
    return build_tiny_model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="session")
def work_stream(nats_server: RealNats) -> None:
    """The stream that takes the reports."""

    async def ensure() -> None:
        bus = Bus(Settings(nats_url=nats_server.url, nats_password=nats_server.passwords["services"]))
        await bus.start()
        try:
            async with asyncio.timeout(20):
                while not bus.connected:
                    await asyncio.sleep(0.02)
                await bus.ensure_streams()
        finally:
            await bus.close()

    asyncio.run(ensure())


@pytest.fixture
def world(tmp_path: Path, nats_server: RealNats, s3_server: RealObjects, tiny_model: Path, work_stream: None) -> World:
    """A store with the model."""
    return World(tmp_path, nats_server, s3_server, tiny_model)
