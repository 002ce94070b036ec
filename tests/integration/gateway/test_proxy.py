"""The inference proxy against engines that break in every way that engines do."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.integration.gateway.world import (
    AUTHORIZATION,
    PROJECT,
    SECRET,
    Edge,
    Engine,
    answers,
    counted,
    cut,
    edge,
    streams,
)

pytestmark = pytest.mark.integration

CHAT = "/v1/chat/completions"
QUESTION = {"model": "help", "messages": [{"role": "user", "content": "Hi"}]}
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
ANSWER = {"id": "1", "model": "help", "choices": [{"message": {"content": "Hello"}}], "usage": USAGE}


def chunk(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}, ensure_ascii=False).encode() + b"\n\n"


def totalled(text: str, completion: int, index: int = 0) -> bytes:
    """A chunk of one choice with its running total, as vLLM writes it."""
    usage = {"prompt_tokens": 7, "total_tokens": 7 + completion, "completion_tokens": completion}
    body = {"id": "1", "choices": [{"index": index, "delta": {"content": text}}], "usage": usage}
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


USAGE_CHUNK = b"data: " + json.dumps({"choices": [], "usage": USAGE}).encode() + b"\n\n"
DONE = b"data: [DONE]\n\n"
WHOLE = chunk("Grüße, ") + chunk("世界 🙂") + USAGE_CHUNK + DONE


async def ask(gateway: Edge, **changes: Any) -> tuple[int, bytes]:
    async with gateway.client.post(CHAT, json={**QUESTION, **changes}, headers=AUTHORIZATION) as response:
        return response.status, await response.read()


async def refuse(request: web.Request) -> web.StreamResponse:
    """Close the connection without a byte."""
    assert request.transport is not None
    request.transport.abort()
    raise ConnectionResetError


@pytest.mark.parametrize("first", [answers({"error": {"message": "starting"}}, 503), refuse])
async def test_a_replica_that_fails_before_its_first_byte_is_followed_by_another(tmp_path: Path, first: Any) -> None:
    broken, sound = Engine(first), Engine(answers(ANSWER))
    async with edge(tmp_path, None, broken, sound) as gateway:
        for _ in range(4):  # whichever of the two is chosen first
            status, body = await ask(gateway)
            assert (status, json.loads(body)) == (200, ANSWER)
        assert len(sound.bodies) == 4
        assert sum(gateway.proxy.in_flight.values()) == 0


async def test_when_every_replica_fails_the_client_is_told_when_to_come_again(tmp_path: Path) -> None:
    async with edge(tmp_path, None, Engine(refuse), Engine(refuse)) as gateway:
        async with gateway.client.post(CHAT, json=QUESTION, headers=AUTHORIZATION) as response:
            assert response.status == 503
            assert int(response.headers["Retry-After"]) >= 1
            assert (await response.json())["error"]["code"] == "no_replica"


async def test_after_a_dead_replica_the_client_is_told_when_the_next_one_is_ready(tmp_path: Path) -> None:
    engine = Engine(refuse)
    async with edge(tmp_path, None, engine) as gateway:

        async def told() -> int:
            async with gateway.client.post(CHAT, json=QUESTION, headers=AUTHORIZATION) as response:
                assert response.status == 503
                return int(response.headers["Retry-After"])

        gateway.route(engine, start_seconds=43)
        assert await told() == 43
        gateway.route(start_seconds=43, starting_since=time.time() - 30)
        assert 12 <= await told() <= 13


async def test_a_stream_that_breaks_ends_with_an_error_event_and_is_never_restarted(tmp_path: Path) -> None:
    dying, other = Engine(streams(chunk("Hel"), then=cut)), Engine(streams(chunk("Hel"), then=cut))
    async with edge(tmp_path, None, dying, other) as gateway:
        status, body = await ask(gateway, stream=True)
        assert status == 200
        assert body.startswith(chunk("Hel"))
        assert b'"code":"stream_broken"' in body and b"[DONE]" not in body
        assert len(dying.bodies) + len(other.bodies) == 1
        assert counted(tmp_path) == {}


async def test_a_stream_that_ends_without_done_is_a_broken_one(tmp_path: Path) -> None:
    async with edge(tmp_path, None, Engine(streams(chunk("Hel")))) as gateway:
        _, body = await ask(gateway, stream=True)
        assert body.endswith(b"\n\n") and b"stream_broken" in body


def uncounted(gateway: Edge, reason: str) -> float:
    return float(gateway.usage.uncounted.labels(reason)._value.get())


async def test_a_stream_whose_client_leaves_is_left_and_billed_by_its_last_total(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def for_ever(response: web.StreamResponse) -> None:
        while True:
            await response.write(chunk("more"))
            await asyncio.sleep(0.01)

    engine = Engine(streams(totalled("Hel", 1), totalled("lo", 2), totalled("Bye", 5, index=1), then=for_ever))
    async with edge(tmp_path, None, engine) as gateway:
        async with aiohttp.ClientSession() as leaving:
            url, body = gateway.client.make_url(CHAT), {**QUESTION, "stream": True, "n": 2}
            async with leaving.post(url, json=body, headers=AUTHORIZATION) as response:
                while b"more" not in await response.content.readany():
                    pass
                request_id = response.headers["x-request-id"]
        async with asyncio.timeout(10):
            await engine.left.wait()
            while sum(gateway.proxy.in_flight.values()):
                await asyncio.sleep(0.01)
        assert uncounted(gateway, "left") == 1
        metrics = await (await gateway.client.get("/metrics")).text()
    assert counted(tmp_path) == {"input-token": 7, "output-token": 7}
    assert request_id in caplog.text and "key-1" in caplog.text
    assert 'modelry_uncounted_calls_total{reason="left"} 1.0' in metrics


async def test_a_plain_call_whose_client_leaves_is_counted_to_its_end(tmp_path: Path) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        asked.set()
        await go_on.wait()
        return web.json_response(ANSWER)

    async with edge(tmp_path, None, Engine(slow)) as gateway:
        waiting = asyncio.create_task(ask(gateway))
        async with asyncio.timeout(10):
            await asked.wait()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert sum(gateway.proxy.in_flight.values()) == 1
            go_on.set()
            while sum(gateway.proxy.in_flight.values()):
                await asyncio.sleep(0.01)
        assert uncounted(gateway, "left") == 0
    assert counted(tmp_path) == {"input-token": 7, "output-token": 3}


ODD: dict[str, list[Any]] = {
    "stream": ["true", "false", 1, 0, 1.0, [], {}],
    "stream_options": ["x", 1, [], [["include_usage", True]]],
    "n": ["2", 2.0, True, 0, -1, []],
    "stream_interval": ["9", 1000, 0],
}
ODD_OPTIONS: dict[str, list[Any]] = {
    "include_usage": ["false", "true", 0, 1, []],
    "continuous_usage_stats": ["false", 1],
}
ODD_FORMS: list[dict[str, Any]] = [
    *({"stream": True, name: value} for name, values in ODD.items() for value in values),
    *({"stream": True, "stream_options": {name: value}} for name, values in ODD_OPTIONS.items() for value in values),
]


@pytest.mark.parametrize("odd", ODD_FORMS, ids=str)
async def test_a_field_that_the_gateway_acts_on_is_read_in_one_way(tmp_path: Path, odd: dict[str, Any]) -> None:
    engine = Engine(streams(WHOLE))
    async with edge(tmp_path, None, engine) as gateway:
        status, body = await ask(gateway, **odd)
        assert (status, engine.bodies) == (400, [])
        assert json.loads(body)["error"]["param"].split(".")[0] == list(odd)[-1]


@pytest.mark.parametrize(
    "options", [None, {}, {"include_usage": None}, {"include_usage": False, "continuous_usage_stats": True}], ids=str
)
async def test_running_totals_are_counted_and_hidden_from_who_did_not_ask(tmp_path: Path, options: Any) -> None:
    engine = Engine(streams(totalled('say "usage":{}', 1), totalled("世", 3), USAGE_CHUNK, DONE))
    async with edge(tmp_path, None, engine) as gateway:
        _, body = await ask(gateway, stream=True, stream_options=options)
        asked = engine.bodies[0]["stream_options"]
    assert (asked["include_usage"], asked["continuous_usage_stats"]) == (True, True)
    events = [json.loads(one[6:]) for one in body.split(b"\n\n")[:-2]]
    assert [event["choices"][0]["delta"]["content"] for event in events] == ['say "usage":{}', "世"]
    assert all(set(event) == {"id", "choices"} for event in events)
    assert counted(tmp_path) == {"input-token": 7, "output-token": 3}


async def test_who_asked_for_the_usage_gets_the_last_chunk_or_all_totals(tmp_path: Path) -> None:
    whole = totalled("a", 1) + totalled("b", 3) + USAGE_CHUNK + DONE
    async with edge(tmp_path, None, Engine(streams(whole))) as gateway:
        _, last = await ask(gateway, stream=True, stream_options={"include_usage": True})
        assert last.count(b'"usage"') == 1 and last.endswith(USAGE_CHUNK + DONE)
        totals = {"include_usage": True, "continuous_usage_stats": True}
        assert (await ask(gateway, stream=True, stream_options=totals))[1] == whole


@pytest.mark.parametrize("stream", [True, False])
async def test_usage_is_in_the_journal_before_the_last_byte(tmp_path: Path, stream: bool) -> None:
    answer = streams(WHOLE) if stream else answers(ANSWER)
    async with edge(tmp_path, None, Engine(answer)) as gateway:
        for call in range(1, 21):
            assert (await ask(gateway, stream=stream))[0] == 200
            assert counted(tmp_path) == {"input-token": 7 * call, "output-token": 3 * call}


@pytest.mark.parametrize("wants_usage", [True, False])
@pytest.mark.parametrize("at", range(1, len(WHOLE), 7))
async def test_events_pass_unchanged_wherever_the_engines_writes_are_split(
    tmp_path: Path, at: int, wants_usage: bool
) -> None:
    async with edge(tmp_path, None, Engine(streams(WHOLE[:at], WHOLE[at:]))) as gateway:
        options = {"stream_options": {"include_usage": True}} if wants_usage else {}
        status, body = await ask(gateway, stream=True, **options)
        expected = WHOLE if wants_usage else WHOLE.replace(USAGE_CHUNK, b"")
        assert (status, body) == (200, expected)
        assert counted(tmp_path) == {"input-token": 7, "output-token": 3}


async def test_a_refusal_of_the_engine_passes_in_openais_envelope(tmp_path: Path) -> None:
    words = "This model's maximum context length is 2048 tokens."
    engine = Engine(answers({"error": {"message": words, "code": 400}}, 400))
    async with edge(tmp_path, None, engine) as gateway:
        status, body = await ask(gateway)
        error = json.loads(body)["error"]
        assert (status, error["message"], error["code"]) == (400, words, "context_length_exceeded")
        assert len(engine.bodies) == 1  # a refusal is no failure of the replica


@pytest.mark.parametrize("header", ["modelry-project", "OpenAI-Project"])
async def test_another_project_is_not_found_at_any_path_of_the_openai_door(tmp_path: Path, header: str) -> None:
    """It was answered, and billed, in the key's own project."""
    engine = Engine(answers(ANSWER))
    async with edge(tmp_path, None, engine) as gateway:
        for name, status in (("another", 404), (PROJECT, 200)):
            headers = {**AUTHORIZATION, header: name}
            async with gateway.client.post(CHAT, json=QUESTION, headers=headers) as response:
                assert response.status == status
            async with gateway.client.get("/v1/models", headers=headers) as response:
                assert response.status == status
        assert len(engine.bodies) == 1
        async with gateway.client.get("/v1/models", headers={**AUTHORIZATION, "OpenAI-Project": "proj_1"}) as response:
            assert response.status == 200


async def test_a_call_leaves_with_the_version_that_answered_and_a_request_id(tmp_path: Path) -> None:
    async with edge(tmp_path, None, Engine(answers(ANSWER))) as gateway:
        async with gateway.client.post(CHAT, json=QUESTION, headers=AUTHORIZATION) as response:
            assert response.headers["x-modelry-model-version"] == "mv-1"
            assert response.headers["x-request-id"].startswith("req_")
        assert counted(tmp_path) == {"input-token": 7, "output-token": 3}


async def test_a_deployments_key_opens_no_adapter_that_is_hosted_beside_it(tmp_path: Path) -> None:
    tuned = {"fine_tuned_name": "ft:x", "model_version_id": "mv-2", "engine_model": "x", "ready": True}
    engine = Engine(answers(ANSWER))
    async with edge(tmp_path, None, engine) as gateway:
        gateway.route(engine, adapters=[tuned])
        record = {"key_id": "key-1", "project": PROJECT, "role": "INFERENCE", "state": "ACTIVE", "version": 2}
        gateway.keys.apply(hashlib.sha256(SECRET.encode()).hexdigest(), {**record, "models": ["help", "dep-1"]})
        assert [(await ask(gateway, model=name))[0] for name in ("help", "dep-1", "ft:x")] == [200, 200, 403]
        async with gateway.client.get("/v1/models", headers=AUTHORIZATION) as response:
            assert [one["id"] for one in (await response.json())["data"]] == ["help"]
