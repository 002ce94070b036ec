"""A real engine behind the real gateway: one that works is left alone, one that hangs is replaced; and its refusals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from modelry.serving.v1 import serving_pb2 as pb
from tests.integration.serving.world import SETTINGS, World, open_world
from tests.tiny_model import CONTEXT_LENGTH, build_tiny_model

UNHEALTHY_SECONDS = 4
TOKENS = CONTEXT_LENGTH - 100
MESSAGES = [{"role": "user", "content": "Hi"}]
pytestmark = [pytest.mark.integration, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A deployment with one replica that is ready. The tests run in their order: the last ones stop its engine."""
    root = tmp_path_factory.mktemp("progress")
    folder = await asyncio.to_thread(build_tiny_model, root / "model")
    settings = f"{SETTINGS}unhealthy_seconds = {UNHEALTHY_SECONDS}\nprobe_seconds = 0.5\n"
    async with open_world(root / "home", settings) as world:
        await world.import_model("tiny", folder)
        await world.create(model="tiny", engine={"cpus": 1})
        await world.in_state("tiny", pb.Deployment.READY)
        await world.answers("tiny")
        yield world


async def the_replica(world: World) -> pb.Replica:
    (replica,) = await world.replicas("tiny", pb.Replica.READY)
    return replica


async def test_no_path_of_a_replica_is_open_without_its_secret(world: World) -> None:
    replica = await the_replica(world)
    environment = Path(f"/proc/{replica.pid}/environ").read_text().split("\0")
    (secret,) = [one.removeprefix("VLLM_API_KEY=") for one in environment if one.startswith("VLLM_API_KEY=")]
    right = {"Authorization": f"Bearer {secret}"}
    async with aiohttp.ClientSession(f"http://{replica.address}") as session:

        async def status(method: str, path: str, headers: dict[str, str]) -> int:
            async with session.request(method, path, headers=headers) as answer:
                return answer.status

        async with session.get("/openapi.json", headers=right) as answer:
            described = (await answer.json())["paths"]
        assert "/invocations" in described and "/tokenize" in described
        assert await status("GET", "/metrics", right) == 200
        paths = [(method.upper(), path) for path, methods in described.items() for method in methods]
        paths += [("GET", path) for path in ("/docs", "/redoc", "/openapi.json", "/metrics", "/health", "/nowhere")]
        for method, path in paths:
            for headers in ({}, {"Authorization": "Bearer other"}):
                assert await status(method, path, headers) == 401, path


def formatted(schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}


SOUND = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"], "additionalProperties": False}
UNUSABLE = [
    formatted({"type": "object", "minProperties": 300}),
    formatted({"type": "object", "patternProperties": {"[": {"type": "string"}}}),
    formatted({"type": "strange"}),
    formatted({"$ref": "#/$defs/nowhere"}),
    formatted({"type": "string", "pattern": "("}),
    formatted({"type": "array", "minItems": 5, "maxItems": 1}),
    {"structured_outputs": {"grammar": "root ::= "}},
    {"structured_outputs": {"regex": "("}},
]


async def test_a_schema_that_cannot_be_compiled_is_refused_and_no_failure(world: World) -> None:
    status, body = await world.ask("tiny", 50, **formatted(SOUND))
    assert status == 200 and json.loads(body["choices"][0]["message"]["content"])["a"] in ("x", "y")
    for unusable in UNUSABLE:
        for stream in (False, True):
            status, body = await world.ask("tiny", stream=stream, **unusable)
            error = body["error"]
            assert (status, error["type"], error["code"]) == (400, "invalid_request_error", None), unusable
            assert "\n" not in error["message"] and ".cc" not in error["message"]
    assert (await world.ask("tiny"))[0] == 200


async def stream(world: World, tokens: int, begun: asyncio.Event | None = None) -> list[str]:
    """The lines of a stream of so many tokens; its first one is told."""
    body = {"model": "tiny", "messages": MESSAGES, "max_tokens": tokens, "ignore_eos": True, "stream": True}
    lines: list[str] = []
    timeout = aiohttp.ClientTimeout(total=100)
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {world.key}"}, timeout=timeout) as session,
        session.post(f"{world.http}/v1/chat/completions", json=body) as answer,
    ):
        assert answer.status == 200, await answer.text()
        async for raw in answer.content:
            if line := raw.decode().strip():
                lines.append(line)
                if begun is not None:
                    begun.set()
    return lines


async def test_a_hundred_streams_keep_their_replica(world: World) -> None:
    before, begin = await the_replica(world), time.monotonic()
    for lines in await asyncio.gather(*(stream(world, TOKENS) for _ in range(100))):
        assert lines[-1] == "data: [DONE]"
    print(f"100 streams took {time.monotonic() - begin:.1f} s")
    assert (await the_replica(world)).id == before.id


async def test_a_single_long_plain_call_keeps_its_replica(world: World) -> None:
    before, begin = await the_replica(world), time.monotonic()
    status, body = await world.ask("tiny", TOKENS, ignore_eos=True)
    print(f"a plain call took {time.monotonic() - begin:.1f} s")
    assert (status, body["usage"]["completion_tokens"]) == (200, TOKENS)
    assert (await the_replica(world)).id == before.id


def below(pid: int) -> Iterator[int]:
    """The processes that a process started, and those that they did."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield int(child)
        yield from below(int(child))


def stop_what_generates(replica: pb.Replica) -> None:
    """Its HTTP server goes on: it is well, as it says."""
    stopped = list(below(replica.pid))
    assert stopped
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)


async def replaced(world: World, replica: pb.Replica) -> str:
    """Why a replica failed, once it did; nothing of it is left."""

    async def failed() -> str:
        return next((one.cause for one in await world.replicas("tiny", pb.Replica.FAILED) if one.id == replica.id), "")

    cause = str(await world.until(failed, 4 * UNHEALTHY_SECONDS))

    async def gone() -> bool:
        return not Path(f"/proc/{replica.pid}").exists()

    await world.until(gone, 30)
    return cause


async def test_streams_of_an_engine_that_was_stopped_end_with_an_error(world: World) -> None:
    replica, begun = await the_replica(world), [asyncio.Event() for _ in range(3)]
    streams = [asyncio.create_task(stream(world, TOKENS, one)) for one in begun]
    await asyncio.gather(*(one.wait() for one in begun))
    stop_what_generates(replica)
    begin = time.monotonic()
    for lines in await asyncio.gather(*streams):
        assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == "stream_broken"
        assert "data: [DONE]" not in lines
    print(f"streams ended {time.monotonic() - begin:.1f} s after their engine was stopped")
    assert "stood still with 3 calls" in await replaced(world, replica)
    await world.in_state("tiny", pb.Deployment.READY)
    await world.answers("tiny")


async def test_an_idle_engine_that_was_stopped_is_replaced_before_anybody_calls(world: World) -> None:
    replica = await the_replica(world)
    stop_what_generates(replica)
    assert "did not write a token" in await replaced(world, replica)
