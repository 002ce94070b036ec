"""The world of the registry, one a test, and a model for all."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.local.testing import RealNats, RealObjects
from tests.integration.registry.world import World, running
from tests.tiny_model import build_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that can be used."""
    return build_tiny_model(tmp_path_factory.mktemp("registry") / "model")


@pytest.fixture
async def world(tmp_path: Path, nats_server: RealNats, s3_server: RealObjects) -> AsyncIterator[World]:
    async with running(World(tmp_path, nats_server, s3_server)) as made:
        yield made
