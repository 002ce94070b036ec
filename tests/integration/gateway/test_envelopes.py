"""Requests that reach no handler of ours, or none at all, get our envelope with a request id, and no traceback."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.integration.gateway.test_slow_clients import KEY, connected, refusal
from tests.integration.gateway.world import AUTHORIZATION, Edge, edge

pytestmark = pytest.mark.integration

HOST = b"Host: x\r\nConnection: close\r\n\r\n"
ASKED = [
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 40 + b"\r\n\r\n", 400),  # TLS at a door without it
    (b"GET\r\n\r\n", 400),
    (b"BREW /pot HTTP/1.1\r\n" + HOST, 400),
    (b"GET /healthz HTTP/1.1\r\nno header\r\n" + HOST, 400),
    (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
    (b"GET /healthz HTTP/9.9\r\n" + HOST, 400),
    (b"GET /healthz HTTP/1.1\r\nX-A: " + b"a" * 10_000 + b"\r\n" + HOST, 400),
    (b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n" + HOST, 400),
    (b"GET /api/v1/a\nb HTTP/1.1\r\n" + HOST, 400),
    (b"GET http:// HTTP/1.1\r\n" + HOST, 400),
    (b"POST /api/v1/jobs HTTP/1.1\r\nContent-Length: -1\r\n" + HOST, 400),
    (b"POST /api/v1/jobs HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n" + HOST, 400),
    (b"GET /api/v1/a%0Ab HTTP/1.1\r\n" + HOST, 404),
    (b"GET /%0A HTTP/1.1\r\n" + HOST, 404),
    (b"CONNECT db.example:443 HTTP/1.1\r\n" + HOST, 404),
    (b"CONNECT db.example:443 HTTP/1.1\r\nExpect: wonders\r\n" + HOST, 404),
    (b"OPTIONS * HTTP/1.1\r\n" + HOST, 404),
    (b"PUT /nothing HTTP/1.1\r\nExpect: wonders\r\n" + HOST, 404),
]
ASKED_OF_OPENAI = [
    (b"GET /v1/models%0A HTTP/1.1\r\n" + HOST, 404),
    (b"GET /v1/a%0Ab HTTP/1.1\r\nExpect: wonders\r\n" + HOST, 404),
    (b"GET /v1/models/a%0Ab HTTP/1.1\r\n" + KEY.encode() + HOST.removeprefix(b"Host: x\r\n"), 404),
    *(
        (f"POST /v1/completions HTTP/1.1\r\n{KEY}Content-Encoding: {name}\r\nContent-Length: 2\r\n".encode(), 415)
        for name in ("zstd", "br", "gzip, zstd", "\u00e9")
    ),
]


async def answer_of(gateway: Edge, request: bytes) -> bytes:
    """All that these bytes are answered with."""
    if b"\r\n\r\n" not in request:
        request += b"Connection: close\r\n\r\n{}"
    async with connected(gateway) as client:
        client.writer.write(request)
        return await client.end()


@pytest.mark.parametrize(("request_bytes", "status", "openai"), [
    *((*asked, False) for asked in ASKED), *((*asked, True) for asked in ASKED_OF_OPENAI)
])  # fmt: skip
async def test_whatever_is_asked_the_refusal_is_ours(
    tmp_path: Path, request_bytes: bytes, status: int, openai: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with edge(tmp_path, None) as gateway:
        refusal(await answer_of(gateway, request_bytes), status, openai=openai)
        async with gateway.client.get("/healthz") as response:
            assert response.status == 200
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]


async def test_a_body_that_breaks_after_the_answer_is_no_error_of_ours(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    head = f"POST /v1/nothing HTTP/1.1\r\n{KEY}Transfer-Encoding: chunked\r\n\r\n".encode()
    async with edge(tmp_path, None) as gateway, connected(gateway) as client:
        client.writer.write(head)
        refusal(await client.answer(), 404, openai=True)
        client.writer.write(b"zz\r\n")
        assert await client.end() == b""
    assert not [record for record in caplog.records if record.exc_info]


MEANT = {
    "/v1/v1/chat/completions": "/v1/chat/completions",
    "/v1/v1/v1/models": "/v1/models",
    "//v1/chat/completions": "/v1/chat/completions",
    "/v1//chat//completions": "/v1/chat/completions",
    "/v1/chat/completions/": "/v1/chat/completions",
    "/v1/models/": "/v1/models",
    "/chat/completions": "/v1/chat/completions",
    "/models": "/v1/models",
    "/api/v1/chat/completions": "/v1/chat/completions",
    "/v1/chat/completions/chat/completions": "/v1/chat/completions",
    "/api/v1/jobs/": "/api/v1/jobs",
    "/api/v1//jobs": "/api/v1/jobs",
    "//api/v1/jobs/ftjob-1": "/api/v1/jobs/ftjob-1",
    "/api/v1/v1/jobs/ftjob-1:stop": "/api/v1/jobs/ftjob-1:stop",
    "/v1/api/v1/jobs": "/api/v1/jobs",
    "/api/v1/api/v1/jobs": "/api/v1/jobs",
    "/healthz/": "/healthz",
    "//docs": "/docs",
    "/v1/healthz": "/healthz",
}
NOTHING_MEANT = ["/v1/nothing", "/api/v1/nothing", "/nothing/", "//", "/v1/", "/api/v1/"]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_path_that_is_nearly_one_of_ours_is_404_and_says_which(tmp_path: Path, method: str) -> None:
    async with edge(tmp_path, None) as gateway, connected(gateway) as client:
        for path, meant in MEANT.items():
            client.writer.write(f"{method} {path} HTTP/1.1\r\n{KEY}Content-Length: 0\r\n\r\n".encode())
            error = refusal(await client.answer(), 404, openai=path.lstrip("/").startswith("v1/"))
            assert f"did you mean {meant}?" in error["message"], (path, error["message"])
        for path in NOTHING_MEANT:
            client.writer.write(f"{method} {path} HTTP/1.1\r\n{KEY}Content-Length: 0\r\n\r\n".encode())
            answer = await client.answer()
            assert answer.startswith(b"HTTP/1.1 404") and b"did you mean" not in answer, path


async def test_a_name_with_slashes_is_still_a_name(tmp_path: Path) -> None:
    async with edge(tmp_path, None) as gateway:
        async with gateway.client.get("/v1/models/a/b", headers=AUTHORIZATION) as response:
            assert (await response.json())["error"]["code"] == "model_not_found"
