"""How long the calls of a project take beside the hostile store of another: printed, and compared with alone."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from modelry.dataset.v1 import dataset_pb2 as pb
from services.chassis.objects import ForeignRules
from tests.hostile_store import hostile_store
from tests.integration.dataset.world import OTHER, PROJECT, World

pytestmark = [pytest.mark.full, pytest.mark.timeout(120)]

CALLS = 300
MOST_TIMES = 1.5
CLOCK_SECONDS = 0.02
"""What scheduling alone may add to the slowest of a hundred calls on two cores."""


async def p99_seconds(world: World) -> float:
    request = pb.BrowseObjectsRequest(credential="team", bucket=world.bucket)
    taken = []
    for _ in range(CALLS):
        began = time.perf_counter()
        await world.call("BrowseObjects", request, PROJECT)
        taken.append(time.perf_counter() - began)
    return sorted(taken)[CALLS * 99 // 100]


async def test_p99_of_listings_beside_a_hostile_store(world: World) -> None:
    world.put("rows.jsonl", [{"instruction": "a?", "output": "b."}])
    await p99_seconds(world)
    alone = await p99_seconds(world)
    with hostile_store() as server:
        world.access.known[OTHER, "hostile"] = replace(server.access, foreign=ForeignRules(("127.0.0.1",)))
        slow = [
            asyncio.create_task(
                world.call("BrowseObjects", pb.BrowseObjectsRequest(credential="hostile", bucket=kind), OTHER)
            )
            for kind in ("trickle", "slow-head", "silent") * 10
        ]
        await asyncio.wait(slow, timeout=1)
        beside = await p99_seconds(world)
        await asyncio.gather(*slow, return_exceptions=True)
    print(f"p99 of listings: {alone * 1000:.1f} ms alone, {beside * 1000:.1f} ms beside a hostile store")
    assert beside <= MOST_TIMES * alone + CLOCK_SECONDS
