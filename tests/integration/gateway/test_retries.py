"""What the gateway does with a call whose replica fails: never a second replica for what killed the first."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from aiohttp import web

from tests.integration.gateway.world import AUTHORIZATION, Edge, Engine, Handler, answers, cut, edge, streams

pytestmark = pytest.mark.integration

QUESTION = {"model": "help", "messages": [{"role": "user", "content": "Hi"}]}
ANSWER = {"id": "1", "choices": [{"message": {"content": "Hello"}}]}


async def ask(gateway: Edge, **changes: object) -> tuple[int, str, str]:
    """Return status, code and advice of an answer."""
    body = {**QUESTION, **changes}
    async with gateway.client.post("/v1/chat/completions", json=body, headers=AUTHORIZATION) as response:
        code = (await response.json()).get("error", {}).get("code", "")
        return response.status, code, response.headers.get("x-should-retry", "")


def mortal() -> Engine:
    """An engine that dies of a question, before a byte of an answer: it is reached no more."""
    engine: list[Engine] = []

    async def die(request: web.Request) -> web.StreamResponse:
        if "poison" in (await request.json()):
            await stop_listening(engine[0])
            assert request.transport is not None
            request.transport.abort()
            raise ConnectionResetError
        return web.json_response(ANSWER)

    engine.append(Engine(die))
    return engine[0]


async def stop_listening(engine: Engine) -> None:
    runner = engine.server.runner
    assert runner is not None
    for site in list(runner.sites):
        await site.stop()


def mortal_in_a_stream() -> Engine:
    """An engine that dies after the head of its answer, and before the first event."""
    engine: list[Engine] = []

    async def die(response: web.StreamResponse) -> None:
        await stop_listening(engine[0])
        await cut(response)

    engine.append(Engine(streams(then=die)))
    return engine[0]


@pytest.mark.parametrize(("make", "stream"), [(mortal, False), (mortal, True), (mortal_in_a_stream, True)])
async def test_what_kills_a_replica_is_tried_at_no_other(
    tmp_path: Path, make: Callable[[], Engine], stream: bool
) -> None:
    engines = [make() for _ in range(3)]
    async with edge(tmp_path, None, *engines) as gateway:
        assert await ask(gateway, stream=stream, poison=True) == (503, "replica_died", "false")
        assert sum(len(engine.bodies) for engine in engines) == 1


KILLED_BY_A_QUESTION = """
import asyncio, os, signal

async def answer(reader, writer):
    head = await reader.readuntil(b"\\r\\n\\r\\n")
    if head.startswith(b"POST"):
        os.kill(os.getpid(), signal.SIGKILL)
    writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\n{}")
    await writer.drain()

async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


async def test_of_three_processes_that_a_question_kills_one_dies(tmp_path: Path) -> None:
    engines = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED_BY_A_QUESTION, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    try:
        ports = [int(await engine.stdout.readline()) for engine in engines if engine.stdout is not None]
        async with edge(tmp_path, None) as gateway:
            gateway.route(replicas=[{"id": f"rep-{port}", "address": f"127.0.0.1:{port}"} for port in ports])
            for dead in (1, 2, 3):
                assert (await ask(gateway))[:2] == (503, "replica_died")
                async with asyncio.timeout(10):
                    while ended(engines) < dead:
                        await asyncio.sleep(0.001)
                assert ended(engines) == dead
    finally:
        for engine in engines:
            if engine.returncode is None:
                engine.kill()
            await engine.wait()


def ended(engines: Sequence[asyncio.subprocess.Process]) -> int:
    return sum(engine.returncode is not None for engine in engines)


async def test_after_a_death_the_other_replicas_answer(tmp_path: Path) -> None:
    engines = [mortal() for _ in range(3)]
    async with edge(tmp_path, None, *engines) as gateway:
        await ask(gateway, poison=True)
        for _ in range(6):  # one that cannot be reached never had the body: going on costs nobody anything
            assert (await ask(gateway))[0] == 200


async def refuse(request: web.Request) -> web.StreamResponse:
    """Close the connection without a byte, and live on."""
    assert request.transport is not None
    request.transport.abort()
    raise ConnectionResetError


@pytest.mark.parametrize("failing", [refuse, answers({}, 503), answers({}, 502)])
async def test_a_body_that_was_sent_is_sent_once_more_at_most(tmp_path: Path, failing: Handler) -> None:
    engines = [Engine(failing) for _ in range(3)]
    async with edge(tmp_path, None, *engines) as gateway:
        assert (await ask(gateway))[:2] == (503, "no_replica")
        assert sorted(len(engine.bodies) for engine in engines) == [0, 1, 1]


async def test_a_question_on_which_an_engine_fails_is_sent_to_no_other_one_also_by_no_sdk(tmp_path: Path) -> None:
    """vLLM says 500 to all that its dead core was working on."""
    engines = [Engine(answers({"error": {"message": "EngineCore encountered an issue."}}, 500)) for _ in range(3)]
    async with edge(tmp_path, None, *engines) as gateway:
        status, _, advice = await ask(gateway)
        assert (status, advice) == (500, "false")
        assert sum(len(engine.bodies) for engine in engines) == 1


async def test_replicas_that_cannot_be_reached_do_not_count_as_tries_of_the_body(tmp_path: Path) -> None:
    sound, gone = Engine(answers(ANSWER)), [Engine(answers(ANSWER)) for _ in range(2)]
    async with edge(tmp_path, None, sound, *gone) as gateway:
        await asyncio.gather(*(engine.server.close() for engine in gone))
        for _ in range(6):
            assert (await ask(gateway))[0] == 200
        assert len(sound.bodies) == 6
