"""Bodies that hostile and careless clients send: packed, too large, too deep, or not what they say."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import zlib
from pathlib import Path

import pytest

from gateway.body import INFERENCE_BYTES, MOST_OBJECTS, NATIVE_BYTES, UPLOAD_BYTES
from modelry.api_methods import SERVICES
from services.dataset.domain.checks import MAX_FILE_BYTES
from tests.integration.gateway.test_lost_answers import services
from tests.integration.gateway.test_native import scripted
from tests.integration.gateway.world import AUTHORIZATION, SECRET, Edge, Engine, answers, edge

pytestmark = pytest.mark.integration

CHAT = "/v1/chat/completions"
DOORS = (CHAT, "/api/v1/jobs", "/api/v1/files", "/api/v1/nothing", "/v1/nothing")
LEAST = "mk-of-the-least-role"
KEY = f"authorization: Bearer {SECRET}\r\n"
MOST_SECONDS = 1.0
"""What a look at the health may take meanwhile on a busy machine; one bomb took ten."""


def bomb(packed_bytes: int) -> bytes:
    """Zeros, a thousand times as many as it has bytes."""
    packer = zlib.compressobj(9)
    head = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    packer.compress(bytes(1 << 20))
    block = packer.flush(zlib.Z_FULL_FLUSH)  # after a full flush it may be repeated
    return head + block * (packed_bytes // len(block))


def add_inference_key(gateway: Edge) -> dict[str, str]:
    key = {"key_id": "key-2", "project": "proj-test", "role": "INFERENCE", "state": "ACTIVE", "version": 1}
    gateway.keys.apply(hashlib.sha256(LEAST.encode()).hexdigest(), key)
    return {"authorization": f"Bearer {LEAST}"}


async def say(gateway: Edge, request: bytes, *, then: bytes = b"") -> tuple[int, bytes]:
    """Send bytes as they are, and more after `100 Continue`. Returns: the last status, and all that was answered."""
    reader, writer = await asyncio.open_connection(gateway.client.host, gateway.client.port)
    try:
        async with asyncio.timeout(30):
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            if answer.startswith(b"HTTP/1.1 100"):
                writer.write(then)
                answer += await reader.readuntil(b"\r\n\r\n")
            last = answer[answer.rindex(b"HTTP/1.") + len("HTTP/1.x ") :]
            length = int(last.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            return int(last[:3]), answer + await reader.readexactly(length)
    finally:
        writer.close()


async def slowest_look(gateway: Edge, work: asyncio.Future[list[int]]) -> float:
    """The longest that `/healthz` took until the work was done."""
    slowest = 0.0
    while not work.done():
        started = time.perf_counter()
        async with gateway.client.get("/healthz") as response:
            assert response.status == 200
        slowest = max(slowest, time.perf_counter() - started)
    return slowest


@pytest.mark.parametrize("with_key", [False, True])
async def test_no_body_is_unpacked_and_the_health_is_told_meanwhile(tmp_path: Path, with_key: bool) -> None:
    packed = bomb(4 << 20)

    async def throw(gateway: Edge, path: str, encoding: str) -> int:
        headers = {"Content-Encoding": encoding, **(AUTHORIZATION if with_key else {})}
        async with gateway.client.post(path, data=packed, headers=headers) as response:
            assert (await response.json())["error"]
            return response.status

    async with scripted(tmp_path) as (gateway, _):
        thrown = [throw(gateway, path, encoding) for path in DOORS for encoding in ("deflate", "gzip", "zstd", "br")]
        work = asyncio.gather(*thrown)
        assert await slowest_look(gateway, work) < MOST_SECONDS
        assert set(await work) == ({415, 404} if with_key else {401, 404})


async def test_large_bodies_leave_the_loop_free(tmp_path: Path) -> None:
    many = b'{"model": "nothing", "messages": [' + b"[]," * (MOST_OBJECTS // 2) + b"[]]}"
    too_many = b'{"model": "nothing", "messages": [' + b"[]," * (INFERENCE_BYTES // 4) + b"[]]}"
    native = b'{"datasets": [' + b"{}," * (NATIVE_BYTES // 8) + b'{}], "nothing": 1}'
    deep = b"[" * INFERENCE_BYTES

    async def send(gateway: Edge, path: str, body: bytes, headers: dict[str, str]) -> int:
        async with gateway.client.post(path, data=body, headers=headers) as response:
            return response.status

    async with edge(tmp_path, None, Engine(answers({}))) as gateway:
        least = add_inference_key(gateway)
        sent = [send(gateway, CHAT, body, least) for body in (many, too_many, deep)]
        work = asyncio.gather(*sent, *(send(gateway, "/api/v1/jobs", native, AUTHORIZATION) for _ in range(4)))
        assert await slowest_look(gateway, work) < MOST_SECONDS
        assert await work == [404, 413, 413, 400, 400, 400, 400]


async def test_a_key_below_the_role_is_refused_before_its_body_is_read(tmp_path: Path) -> None:
    async with edge(tmp_path, None) as gateway:
        add_inference_key(gateway)
        for path in ("/api/v1/jobs", "/api/v1/files"):
            for expect in ("", "Expect: 100-continue\r\n"):
                head = f"POST {path} HTTP/1.1\r\nHost: x\r\nauthorization: Bearer {LEAST}\r\n{expect}"
                status, answer = await say(gateway, f"{head}Content-Length: 900000\r\n\r\n".encode())
                assert status == 403 and b"100 Continue" not in answer
                assert b"developer" in answer


@pytest.mark.parametrize(("path", "most"), [("/api/v1/jobs", NATIVE_BYTES), (CHAT, INFERENCE_BYTES)])
async def test_a_body_over_the_limit_is_413_and_nobody_should_send_it_again(
    tmp_path: Path, path: str, most: int
) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{KEY}"
    chunk = b"%x\r\n" % (most + 1) + b" " * (most + 1) + b"\r\n0\r\n\r\n"
    async with edge(tmp_path, None) as gateway:
        for request in (
            f"{head}Content-Length: {most + 1}\r\n\r\n".encode(),
            f"{head}Expect: 100-continue\r\nContent-Length: {most + 1}\r\n\r\n".encode(),
            f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk,
        ):
            status, answer = await say(gateway, request)
            assert status == 413 and b"HTTP/1.1 100" not in answer
            assert b"x-should-retry: false" in answer and b"retry-after" not in answer.lower()
            error = json.loads(answer.split(b"\r\n\r\n")[-1])["error"]
            assert "BODY_TOO_LARGE" in (error["code"].upper() if path == CHAT else error["reason"])


async def test_a_file_over_the_limit_is_413_before_it_is_sent(tmp_path: Path) -> None:
    head = f"POST /api/v1/files HTTP/1.1\r\nHost: x\r\n{KEY}Expect: 100-continue\r\n"
    async with edge(tmp_path, None) as gateway:
        status, answer = await say(gateway, f"{head}Content-Length: {UPLOAD_BYTES + 1}\r\n\r\n".encode())
        assert status == 413 and answer.startswith(b"HTTP/1.1 413")
    assert 0 < UPLOAD_BYTES - MAX_FILE_BYTES <= NATIVE_BYTES  # what the service takes, and the form around it


async def test_a_client_that_waits_is_asked_for_its_body_once_it_will_be_read(tmp_path: Path) -> None:
    body = b'{"model": "nothing"}'
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n"
    async with edge(tmp_path, None) as gateway:
        status, answer = await say(gateway, f"{head}{KEY}\r\n".encode(), then=body)
        assert status == 404 and answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404")
        status, answer = await say(gateway, f"{head}\r\n".encode(), then=body)
        assert status == 401 and answer.startswith(b"HTTP/1.1 401")


FORM = "content-type: multipart/form-data; boundary=b\r\n"
DEEP, LONG = b"[" * 100_000, b"1" * 5000
BODIES = (
    DEEP,
    b'{"title":' + DEEP,
    b'{"title": ' + LONG + b"}",
    b'{"hyperparameters": {"learning_rate": 1' + b"0" * 400 + b"}}",
    b'{"hyperparameters": {"learning_rate": 1e400}}',
    b'{"hyperparameters": {"compute_type": 4294967297}}',
    b'{"title": "\\ud800"}',
    b'{"metadata": {"\\ud800": "a"}}',
    b'{"\\ud800": 1}',
    b'{"title": "\xff"}',
    b'{"max_cost": "1e999999999"}',
    b'{"model": "\\ud800"}',
    b'{"model": ' + LONG + b"}",
    b'{"model": "nothing", "n": ' + LONG + b"}",
    b'{"model": "nothing", "messages": ' + DEEP,
)


@pytest.mark.parametrize("path", [CHAT, "/api/v1/jobs", "/api/v1/jobs:quote"])
async def test_a_body_that_no_parser_likes_is_400(tmp_path: Path, path: str) -> None:
    async with scripted(tmp_path) as (gateway, _):
        for body in BODIES:
            async with gateway.client.post(path, data=body, headers=AUTHORIZATION) as response:
                answer = await response.json()
            # A name that nothing has is 404, once the body was understood.
            assert response.status == 400 or (path == CHAT and response.status == 404), (body[:60], answer)


@pytest.mark.parametrize(
    "request_bytes",
    [
        *(
            f"GET /api/v1/jobs/ftjob-1 HTTP/1.1\r\n{name}: ".encode() + b"\xff\r\n"
            for name in ("modelry-project", "OpenAI-Project", "traceparent", "tracestate", "x-api-key", "user-agent")
        ),
        b"GET /api/v1/jobs/ftjob-1:watch HTTP/1.1\r\nLast-Event-ID: \xff\r\n",
        b"GET /api/v1/jobs/\xff HTTP/1.1\r\n",
        b"GET /api/v1/jobs/%ff%ed%a0%80 HTTP/1.1\r\n",
        b"GET /api/v1/jobs/gone?\xff=\xff HTTP/1.1\r\n",
        b"GET /api/v1/jobs?filter=\xff HTTP/1.1\r\n",
        b"GET /v1/models/\xff HTTP/1.1\r\n",
        b"GET /v1/models/%ff HTTP/1.1\r\n",
        b"POST /api/v1/jobs HTTP/1.1\r\nIdempotency-Key: \xff\r\nContent-Length: 2\r\n",
        b"POST /api/v1/jobs HTTP/1.1\r\ncontent-type: \xff\r\nIdempotency-Key: \xff\r\nContent-Length: 2\r\n",
        b"POST /api/v1/files HTTP/1.1\r\ncontent-type: multipart/form-data\r\nContent-Length: 2\r\n",
        b"POST /api/v1/files HTTP/1.1\r\ncontent-type: multipart/form-data; boundary=\xff\r\nContent-Length: 2\r\n",
        f"POST /api/v1/files HTTP/1.1\r\n{FORM}Content-Length: 2\r\n".encode(),
    ],
)
async def test_bytes_that_are_no_text_are_no_error_of_ours(tmp_path: Path, request_bytes: bytes) -> None:
    async with scripted(tmp_path) as (gateway, training):
        training.more.set()
        key = b"" if b"x-api-key" in request_bytes else KEY.encode()
        body = b"{}" if b"Content-Length: 2" in request_bytes else b""
        status, answer = await say(gateway, request_bytes + key + b"Host: x\r\n\r\n" + body)
        assert status < 500, answer


@pytest.mark.parametrize(
    "form",
    [
        b"--other\r\n\r\n",
        b"--b\r\nno header\r\n\r\nx\r\n--b--\r\n",
        b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n\xff\r\n--b--\r\n',
        b'--b\r\ncontent-disposition: form-data; name="\xff"\r\n\r\na\r\n--b--\r\n',
        b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n' + b"a" * (1 << 20) + b"\r\n--b--\r\n",
        b'--b\r\ncontent-disposition: form-data; name="purpose"\r\ncontent-encoding: deflate\r\n\r\n'
        + bomb(16 << 10)
        + b"\r\n--b--\r\n",
        b"--b\r\ncontent-type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\n--c--\r\n--b--\r\n",
        b"",
    ],
)
async def test_a_broken_form_is_refused(tmp_path: Path, form: bytes) -> None:
    head = f"POST /api/v1/files HTTP/1.1\r\nHost: x\r\n{KEY}{FORM}Content-Length: {len(form)}\r\n\r\n"
    async with scripted(tmp_path) as (gateway, _):
        status, answer = await say(gateway, head.encode() + form)
        assert status in (400, 413), answer
        assert b"x-request-id" in answer


@pytest.mark.parametrize("path", [CHAT, "/api/v1/jobs", "/api/v1/files?filename=a"])
async def test_broken_framing_is_refused(tmp_path: Path, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{KEY}Transfer-Encoding: chunked\r\n\r\n"
    async with services() as (_, address):
        async with edge(tmp_path, None, addresses=dict.fromkeys(SERVICES, address)) as gateway:
            status, answer = await say(gateway, f"{head}4\r\nabcd\r\nzz\r\n".encode())
            assert status == 400 and b"x-request-id" in answer
