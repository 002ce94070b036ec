"""A hostile store of one project beside ordinary work of another."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import grpc
import pytest

from modelry.dataset.v1 import dataset_pb2 as pb
from services.chassis.errors import ModelryError
from services.chassis.objects import ForeignRules
from tests.hostile_store import HostileStore, hostile_store
from tests.integration.dataset.world import OTHER, PROJECT, World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

SLOW = ("trickle", "slow-head", "silent", "endless", "huge")
SOON_SECONDS = 10
BOUND_SECONDS = 30


@pytest.fixture
def hostile(world: World) -> Iterator[HostileStore]:
    """A store that the other project has a credential of."""
    with hostile_store() as server:
        world.access.known[OTHER, "hostile"] = replace(server.access, foreign=ForeignRules(("127.0.0.1",)))
        yield server


def browse(world: World, project: str, credential: str, bucket: str) -> asyncio.Task[object]:
    request = pb.BrowseObjectsRequest(credential=credential, bucket=bucket)
    return asyncio.create_task(world.call("BrowseObjects", request, project))


async def test_calls_to_a_hostile_store_keep_no_other_project_waiting(world: World, hostile: HostileStore) -> None:
    key = world.put("rows.jsonl", [{"instruction": "a?", "output": "b."}])
    asked = [browse(world, OTHER, "hostile", kind) for kind in SLOW for _ in range(10)]
    await asyncio.wait(asked, timeout=1)
    async with asyncio.timeout(SOON_SECONDS):
        await browse(world, PROJECT, "team", world.bucket)
        created = await world.create("ordinary", key)
    assert (await world.settled(created, SOON_SECONDS)).state == pb.DatasetVersion.PUBLISHED
    async with asyncio.timeout(BOUND_SECONDS):
        ends = await asyncio.gather(*asked, return_exceptions=True)
    unforeseen = [end for end in ends if isinstance(end, BaseException) and not isinstance(end, ModelryError)]
    assert unforeseen == []  # one page of an endless list is an answer


async def test_imports_from_a_hostile_store_leave_a_place_for_others(world: World, hostile: HostileStore) -> None:
    hostile.keys = ("slow/1",)
    key = world.put("rows.jsonl", [{"instruction": "a?", "output": "b."}])
    for number in range(4):
        version = pb.DatasetVersion()
        version.object.credential, version.object.bucket, version.object.prefix = "hostile", "sluggish", "slow/"
        request = pb.CreateDatasetVersionRequest(dataset=f"slow-{number}", dataset_version=version, create_dataset=True)
        with suppress(grpc.aio.AioRpcError):
            await world.call("CreateDatasetVersion", request, OTHER)
    await asyncio.to_thread(hostile.reading.wait, SOON_SECONDS)
    assert hostile.reading.is_set()
    ordinary = await world.create("ordinary", key)
    assert (await world.settled(ordinary, 2 * SOON_SECONDS)).state == pb.DatasetVersion.PUBLISHED
