"""The world of training, one a test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.local.testing import RealNats, RealObjects
from tests.integration.training.world import World, running


@pytest.fixture
async def world(tmp_path: Path, nats_server: RealNats, s3_server: RealObjects) -> AsyncIterator[World]:
    async with running(World(tmp_path / "home", nats_server, s3_server)) as made:
        made.objects.ensure_bucket(made.bucket)
        yield made
