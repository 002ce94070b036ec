"""One real engine and two keys: what one of them asks for keeps the other from nothing."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from modelry.serving.v1 import serving_pb2 as pb
from tests.integration.serving.world import World, open_world
from tests.tiny_model import build_tiny_model

pytestmark = [pytest.mark.integration, pytest.mark.timeout(580)]

CROWD, SMALL_CALLS = 64, 10


async def test_64_calls_of_128_choices_of_one_key_do_not_starve_another(tmp_path: Path) -> None:
    base = build_tiny_model(tmp_path / "base")
    async with open_world(tmp_path / "home") as world:
        await world.import_model("tiny", base)
        await world.create(model="tiny", replicas=1, engine={"cpus": 1})
        await world.in_state("tiny", pb.Deployment.READY)
        await world.answers("tiny")
        claim = await world.call("ClaimDeploymentKey", pb.ClaimDeploymentKeyRequest(deployment="tiny"))
        alone = await small_calls(world)
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {claim.secret}"}) as greedy:
            assert await ask(greedy, world, n=1) == 200
            crowd = [asyncio.create_task(ask(greedy, world, n=128, max_tokens=64)) for _ in range(CROWD)]
            await world.until(lambda: waiting(greedy, world), 60)
            beside = await small_calls(world)
            still_there = sum(not one.done() for one in crowd)
            assert {one.result() for one in (await asyncio.wait(crowd))[0]} <= {200, 429}
    print(f"three tokens alone {max(alone):.3f} s, beside the crowd {max(beside):.3f} s, {still_there} left of it")
    assert still_there > 0


async def ask(session: aiohttp.ClientSession, world: World, **more: Any) -> int:
    body = {"model": "tiny", "prompt": "What is 12 + 30?", "ignore_eos": True, **more}
    async with session.post(f"{world.http}/v1/completions", json=body) as answer:
        await answer.read()
        return answer.status


async def waiting(session: aiohttp.ClientSession, world: World) -> bool:
    async with session.get(f"{world.http}/metrics") as answer:
        found = re.search(r"^modelry_inference_waiting (\d+)", await answer.text(), re.MULTILINE)
        return found is not None and int(found[1]) > CROWD // 2


async def small_calls(world: World) -> list[float]:
    """The seconds that some calls of three tokens take, one after the other."""
    took = []
    for _ in range(SMALL_CALLS):
        begin = time.monotonic()
        assert (await world.ask("tiny", 3))[0] == 200
        took.append(time.monotonic() - begin)
    return took
