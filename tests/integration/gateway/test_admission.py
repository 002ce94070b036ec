"""One key at a replica: what a call may ask for, how much of it is at work, and who waits."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.integration.gateway.world import AUTHORIZATION, PROJECT, Edge, Engine, answers, counted, edge

pytestmark = pytest.mark.integration

QUESTION = {"model": "help", "prompt": "Hi"}
ANSWER = {"id": "1", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
OTHER = {"authorization": "Bearer mk-another"}
SMALL = {"limits": {"sequences": 4, "choices": 3, "logprobs": 2}, "max_model_length": 100}


async def ask(gateway: Edge, headers: dict[str, str] = AUTHORIZATION, **changes: Any) -> tuple[int, dict[str, Any]]:
    async with gateway.client.post("/v1/completions", json={**QUESTION, **changes}, headers=headers) as response:
        return response.status, json.loads(await response.read())


OVER: list[tuple[dict[str, Any], str]] = [
    ({"n": 4}, "n"),
    ({"n": 16384}, "n"),
    ({"best_of": 4}, "best_of"),
    ({"best_of": "2"}, "best_of"),
    ({"max_tokens": 101}, "max_tokens"),
    ({"max_tokens": "5"}, "max_tokens"),
    ({"max_completion_tokens": 101}, "max_completion_tokens"),
    ({"logprobs": 3}, "logprobs"),
    ({"logprobs": -1}, "logprobs"),
    ({"logprobs": "2"}, "logprobs"),
    ({"logprobs": True, "top_logprobs": 3}, "top_logprobs"),
    ({"prompt_logprobs": 3}, "prompt_logprobs"),
    ({"prompt_logprobs": -1}, "prompt_logprobs"),
    ({"logprobs": 1, "logprob_token_ids": [1, 2, 3]}, "logprob_token_ids"),
    ({"prompt": ["a"] * 5}, "prompt"),
    ({"prompt": [[1], [2], [3], [4], [5]]}, "prompt"),
    ({"prompt": ["a", "b"], "n": 3}, "n"),
]
WITHIN: list[dict[str, Any]] = [
    {"n": 3, "best_of": 3, "max_tokens": 100, "logprobs": 2},
    {"logprobs": True, "top_logprobs": 2, "prompt_logprobs": 0, "max_completion_tokens": 1},
    {"logprobs": False, "n": None, "max_tokens": None},
    {"prompt": ["a", "b"], "n": 2},
    {"prompt": [1, 2, 3, 4, 5]},
]


@pytest.mark.parametrize(("body", "field"), OVER, ids=str)
async def test_what_multiplies_the_work_of_an_engine_has_a_bound(
    tmp_path: Path, body: dict[str, Any], field: str
) -> None:
    engine = Engine(answers(ANSWER))
    async with edge(tmp_path, None, engine) as gateway:
        gateway.route(engine, **SMALL)
        status, answer = await ask(gateway, **body)
        assert (status, engine.bodies) == (400, [])
        assert answer["error"]["param"] == field


@pytest.mark.parametrize("body", WITHIN, ids=str)
async def test_what_is_within_the_bounds_passes(tmp_path: Path, body: dict[str, Any]) -> None:
    engine = Engine(answers(ANSWER))
    async with edge(tmp_path, None, engine) as gateway:
        gateway.route(engine, **SMALL)
        assert (await ask(gateway, **body))[0] == 200


async def test_a_route_that_says_nothing_takes_128_choices(tmp_path: Path) -> None:
    async with edge(tmp_path, None, Engine(answers(ANSWER))) as gateway:
        assert [(await ask(gateway, n=n))[0] for n in (128, 129)] == [200, 400]


class Slow:
    """An engine that holds every call until it is let go, and knows how many sequences it has."""

    def __init__(self) -> None:
        self.at_work = self.most = 0
        self.gate = asyncio.Semaphore(0)
        self.engine = Engine(self._answer)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body.get("prompt") == "quick":
            return web.json_response(ANSWER)
        self.at_work += body.get("n", 1)
        self.most = max(self.most, self.at_work)
        try:
            await self.gate.acquire()
        finally:
            self.at_work -= body.get("n", 1)
        return web.json_response(ANSWER)


def second_key(gateway: Edge) -> None:
    record = {"key_id": "key-2", "project": PROJECT, "role": "INFERENCE", "state": "ACTIVE", "version": 1}
    gateway.keys.apply(hashlib.sha256(b"mk-another").hexdigest(), record)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def test_one_key_does_not_keep_another_from_a_replica(tmp_path: Path) -> None:
    slow = Slow()
    async with edge(tmp_path, None, slow.engine) as gateway:
        second_key(gateway)
        calls = [asyncio.create_task(ask(gateway, n=128)) for _ in range(64)]
        await until(lambda: slow.at_work >= 128)
        async with asyncio.timeout(10):
            assert (await ask(gateway, OTHER, prompt="quick"))[0] == 200
        await until(lambda: gateway.proxy.admission.waiting == 63)
        metrics = await (await gateway.client.get("/metrics")).text()
        assert "modelry_inference_waiting 63.0" in metrics
        for _ in calls:
            slow.gate.release()
        assert {status for status, _ in await asyncio.gather(*calls)} == {200}
        assert (slow.most, gateway.proxy.admission.waiting, sum(gateway.proxy.in_flight.values())) == (128, 0, 0)
        assert (await ask(gateway, prompt="quick"))[0] == 200


async def test_the_rest_waits_in_order_and_a_small_call_overtakes_no_large_one(tmp_path: Path) -> None:
    slow, done = Slow(), []
    async with edge(tmp_path, None, slow.engine) as gateway:
        gateway.route(slow.engine, **SMALL)

        async def noted(name: int, n: int) -> None:
            await ask(gateway, n=n, user=str(name))
            done.append(name)

        calls = []
        for name, n in enumerate((3, 3, 1, 2)):  # the third would fit beside the first
            calls.append(asyncio.create_task(noted(name, n)))
            await until(lambda: gateway.proxy.admission.waiting + slow.at_work // 3 > len(calls) - 1)
        assert [body["user"] for body in slow.engine.bodies] == ["0"]
        for _ in calls:
            slow.gate.release()
        await asyncio.gather(*calls)
        assert [body["user"] for body in slow.engine.bodies] == ["0", "1", "2", "3"]
        assert slow.most <= 4


async def test_a_keys_calls_go_where_it_has_room(tmp_path: Path) -> None:
    first, second = Slow(), Slow()
    async with edge(tmp_path, None, first.engine, second.engine) as gateway:
        gateway.route(first.engine, second.engine, **SMALL)
        calls = [asyncio.create_task(ask(gateway, n=2)) for _ in range(6)]
        await until(lambda: gateway.proxy.admission.waiting == 2)
        await until(lambda: (first.at_work, second.at_work) == (4, 4))
        for slow in (first, second):
            for _ in calls:
                slow.gate.release()
        assert {status for status, _ in await asyncio.gather(*calls)} == {200}


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_while_it_waits_frees_its_place(tmp_path: Path, stream: bool) -> None:
    slow = Slow()
    async with edge(tmp_path, None, slow.engine) as gateway:
        gateway.route(slow.engine, **SMALL)
        first = asyncio.create_task(ask(gateway, n=3))
        await until(lambda: slow.at_work == 3)
        leaving = asyncio.create_task(ask(gateway, n=3, user="left", stream=stream))
        await until(lambda: gateway.proxy.admission.waiting == 1)
        last = asyncio.create_task(ask(gateway, n=1, user="last"))
        await until(lambda: gateway.proxy.admission.waiting == 2)
        leaving.cancel()
        await until(lambda: gateway.proxy.admission.waiting == 0)  # the last one fits beside the first
        await until(lambda: slow.at_work == 4)
        slow.gate.release()
        slow.gate.release()
        assert [(await one)[0] for one in (first, last)] == [200, 200]
        assert "left" not in [body.get("user") for body in slow.engine.bodies]
    assert counted(tmp_path) == {"input-token": 2, "output-token": 4}


async def test_the_wait_for_a_place_has_an_end(tmp_path: Path) -> None:
    slow = Slow()
    async with edge(tmp_path, None, slow.engine, wait_seconds=0.05) as gateway:
        gateway.route(slow.engine, **SMALL)
        first = asyncio.create_task(ask(gateway, n=3))
        await until(lambda: slow.at_work == 3)
        async with gateway.client.post("/v1/completions", json={**QUESTION, "n": 2}, headers=AUTHORIZATION) as refused:
            assert refused.status == 429 and int(refused.headers["Retry-After"]) >= 1
            assert (await refused.json())["error"]["code"] == "rate_limit_exceeded"
        slow.gate.release()
        assert (await first)[0] == 200
        assert len(slow.engine.bodies) == 1
