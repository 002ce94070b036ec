"""What an engine says against a request, and what its client reads of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gateway.test_proxy import ANSWER, DONE, ask, chunk, totalled
from tests.integration.gateway.world import Engine, answers, counted, edge, streams

pytestmark = pytest.mark.integration

MISSING = "  {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', 'input': {'model': 'help'}}\n"
UNION = "  {'type': 'string_type', 'loc': 'body.stop', 'msg': 'Input should be a valid string', 'input': 5}\n"
QUOTED = """  {'type': 'literal', 'loc': 'body.a', 'msg': "Input should be 'x', or 'y'", 'input': "', 'msg': 'mine'"}"""
GRAMMAR = "Failed to transform json schema into a grammar: [14:50:10] <path>:4944: minProperties is greater"
NOT_FOUND = "Error retrieving file: `x` is not among the files (parameter=model, value=x)"
TOO_LONG = "This model's maximum context length is 512 tokens. However, your prompt contains 600 input tokens."
NO_TOOLS = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
MOST = "n must be at most 16384, got 99999. To increase this limit, set the VLLM_MAX_N_SEQUENCES environment variable."
TEMPLATE = "Chat template is passed with request, but --trust-request-chat-template is not set. Refused request."
UNKNOWN = "You must set `--enable-mm-embeds` to input `image_embeds`"
UNSUPPORTED = "The field messages asks for what this deployment does not support."
NO_STRING = "The field stop is not valid: Input should be a valid string."
CASES: list[tuple[str, Any, str, str | None, str | None]] = [
    # what the engine says, its param; what the client reads, its param, its code
    (
        f"1 validation error:\n{MISSING}",
        "body.messages",
        "The field messages is not valid: Field required.",
        "messages",
        None,
    ),
    (f"19 validation errors:\n{UNION * 10}  ...and 9 more errors", "body.stop", NO_STRING, "stop", None),
    (f"1 validation error:\n{QUOTED}", "body.a", "The field a is not valid: Input should be 'x', or 'y'.", "a", None),
    ("1 validation error:\n  {'type': 'x'...[truncated]", "body", "The request is not valid.", None, None),
    ("Validation error", None, "Validation error", None, None),
    (GRAMMAR, None, "Failed to transform json schema into a grammar: minProperties is greater", None, None),
    (NOT_FOUND, "model", "Error retrieving file: `x` is not among the files", "model", None),
    (f"{TOO_LONG} (parameter=input_tokens, value=600)", "input_tokens", TOO_LONG, None, "context_length_exceeded"),
    (NO_TOOLS, None, 'This deployment does not support "auto" tool choice.', None, None),
    (MOST, "n", "n must be at most 16384, got 99999.", "n", None),
    (TEMPLATE, None, "Refused request.", None, None),
    (UNKNOWN, "messages", UNSUPPORTED, "messages", None),
    ("grammar error:\n    [\n    ^\n  unclosed", None, "grammar error: [ ^ unclosed", None, None),
    ("", None, "The engine refused the request.", None, None),
    ("x" * 5000, 7, "x" * 400 + "…", None, None),
]


@pytest.mark.parametrize(("said", "param", "message", "field", "code"), CASES, ids=range(len(CASES)))
async def test_a_refusal_of_the_engine_is_told_in_plain_words(
    tmp_path: Path, said: str, param: Any, message: str, field: str | None, code: str | None
) -> None:
    error = {"message": said, "type": "Bad Request", "param": param, "code": 400}
    async with edge(tmp_path, None, Engine(answers({"error": error}, 400))) as gateway:
        status, body = await ask(gateway)
    kind = "invalid_request_error"
    assert (status, json.loads(body)) == (
        400,
        {"error": {"message": message, "type": kind, "param": field, "code": code}},
    )


@pytest.mark.parametrize("body", [{"detail": "Not Found"}, ["x"], "x", {"error": "Unauthorized"}, {"error": None}])
async def test_what_is_no_error_of_an_engine_is_a_plain_sentence_too(tmp_path: Path, body: Any) -> None:
    async with edge(tmp_path, None, Engine(answers(body, 400))) as gateway:
        status, answer = await ask(gateway)
    error = json.loads(answer)["error"]
    assert (status, error["message"], error["code"]) == (400, "The engine refused the request.", None)


@pytest.mark.parametrize("status", [500, 501])
async def test_a_failure_of_the_engine_tells_nothing_of_its_inside(tmp_path: Path, status: int) -> None:
    error = {"message": "CUDA error at /opt/x", "type": "InternalServerError", "param": None, "code": status}
    async with edge(tmp_path, None, Engine(answers({"error": error}, status))) as gateway:
        found, body = await ask(gateway)
    assert found == status and b"CUDA" not in body and json.loads(body)["error"]["code"] is None


@pytest.mark.parametrize("code", [400, 500])
async def test_an_error_within_a_stream_wears_the_same_and_ends_it(tmp_path: Path, code: int) -> None:
    error = {"message": f"Bad. {NO_TOOLS}", "type": "x", "param": "body.tools", "code": code}
    event = b"data: " + json.dumps({"error": error}).encode() + b"\n\n"
    async with edge(tmp_path, None, Engine(streams(totalled("Hel", 1), event, DONE))) as gateway:
        _, body = await ask(gateway, stream=True)
        assert counted(tmp_path) == {"input-token": 7, "output-token": 1}
    *_, last = body.strip().split(b"\n\n")
    shown = json.loads(last[6:])["error"]
    assert shown["param"] == "tools" and shown["code"] is None
    assert (shown["message"] == "Bad.") is (code == 400) and b"--enable" not in body


async def test_words_of_a_model_are_no_error(tmp_path: Path) -> None:
    said = chunk('data: {"error": {"message": "x"}}')
    async with edge(tmp_path, None, Engine(streams(said, DONE))) as gateway:
        assert (await ask(gateway, stream=True))[1] == said + DONE


async def test_a_replica_that_does_not_know_our_secret_is_no_matter_of_the_clients_key(tmp_path: Path) -> None:
    stranger, sound = Engine(answers({"error": "Unauthorized"}, 401)), Engine(answers(ANSWER))
    async with edge(tmp_path, None, stranger, sound) as gateway:
        assert {(await ask(gateway))[0] for _ in range(4)} == {200}
        gateway.route(stranger)
        status, body = await ask(gateway)
    assert (status, json.loads(body)["error"]["code"]) == (503, "no_replica")


async def test_a_stream_that_begins_with_a_refusal_is_a_plain_one(tmp_path: Path) -> None:
    event = b"data: " + json.dumps({"error": {"message": "Bad.", "type": "x", "code": 400}}).encode() + b"\n\n"
    async with edge(tmp_path, None, Engine(streams(event, DONE))) as gateway:
        status, body = await ask(gateway, stream=True)
        assert gateway.usage.uncounted.labels("broken")._value.get() == 0
    assert (status, json.loads(body)["error"]["message"]) == (400, "Bad.")
