"""Clients that are slow, stop, or are too many: each is ended in its time, and nobody waits for it for ever."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.connections import Bounds
from modelry.api_methods import SERVICES
from tests.integration.gateway.test_lost_answers import services
from tests.integration.gateway.world import SECRET, Edge, Engine, edge

pytestmark = pytest.mark.integration

SECONDS = 0.4
SHORT = Bounds(
    head_seconds=SECONDS,
    idle_seconds=SECONDS,
    body_seconds=SECONDS,
    write_seconds=SECONDS,
    least_rate=1000,
    look_seconds=0.05,
)
WITHIN = 10
"""Seconds in which whatever should happen has happened on a busy machine."""
CHAT = "/v1/chat/completions"
KEY = f"Host: x\r\nauthorization: Bearer {SECRET}\r\n"
QUESTION = json.dumps({"model": "help", "messages": [], "stream": True})


class Client:
    """A client that writes and reads bytes as a test says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def end(self) -> bytes:
        """All that comes until the gateway closes."""
        async with asyncio.timeout(WITHIN):
            return await self.reader.read()

    async def answer(self) -> bytes:
        """The head of one answer, and its body."""
        async with asyncio.timeout(WITHIN):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            return head + await self.reader.readexactly(length)

    async def trickle(self, text: str) -> None:
        """Write byte by byte, for as long as the gateway listens."""
        for byte in text.encode():
            if self.reader.at_eof():
                return
            self.writer.write(bytes((byte,)))
            await asyncio.sleep(0.01)


@asynccontextmanager
async def connected(gateway: Edge, *, takes_bytes: int | None = None) -> AsyncIterator[Client]:
    """A connection; `takes_bytes` is what its kernel takes of an answer that nobody reads."""
    wire = socket.socket()
    if takes_bytes is not None:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, takes_bytes)
    wire.setblocking(False)
    await asyncio.get_running_loop().sock_connect(wire, (gateway.client.host, gateway.client.port))
    reader, writer = await asyncio.open_connection(sock=wire, limit=1 << 10)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


def refusal(answer: bytes, status: int, *, openai: bool = False) -> dict[str, Any]:
    """The error in an answer, which must be ours: its envelope, its headers, a request id."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head[:8] in (b"HTTP/1.0", b"HTTP/1.1") and head[9:12] == str(status).encode(), answer
    assert b"x-request-id: req_" in head and b"server: modelry" in head.lower()
    error: dict[str, Any] = json.loads(body)["error"]
    assert set(error) == ({"message", "type", "param", "code"} if openai else set(error) | {"reason", "request_id"})
    return error


@pytest.mark.parametrize("head", ["G", f"GET /healthz HTTP/1.1\r\n{KEY}", f"POST {CHAT} HTTP/1.1\r\nX-A: {'a' * 5000}"])
async def test_a_head_that_does_not_come_is_408(tmp_path: Path, head: str) -> None:
    async with edge(tmp_path, None, bounds=SHORT) as gateway, connected(gateway) as client:
        client.writer.write(head.encode())
        assert refusal(await client.end(), 408)["reason"] == "SLOW_HEAD"


async def test_a_head_that_trickles_is_ended(tmp_path: Path) -> None:
    async with edge(tmp_path, None, bounds=SHORT) as gateway, connected(gateway) as client:
        trickling = client.trickle("GET /healthz HTTP/1.1\r\nX-A: " + "a" * 1000)
        answer, _ = await asyncio.gather(client.end(), trickling, return_exceptions=True)
        if not isinstance(answer, ConnectionResetError):  # a byte that came last makes the kernel drop the answer
            assert isinstance(answer, bytes)
            refusal(answer, 408)


async def test_a_connection_without_a_request_is_closed_without_a_word(tmp_path: Path) -> None:
    async with edge(tmp_path, None, bounds=SHORT) as gateway, connected(gateway) as new, connected(gateway) as idle:
        idle.writer.write(f"GET /healthz HTTP/1.1\r\n{KEY}\r\n".encode())
        assert (await idle.answer()).startswith(b"HTTP/1.1 200")
        assert await new.end() == await idle.end() == b""


BODIES = {
    CHAT: "content-type: application/json\r\n",
    "/api/v1/jobs": "content-type: application/json\r\n",
    "/api/v1/files?filename=a&purpose=fine-tune": "content-type: application/octet-stream\r\n",
    "/api/v1/files": "content-type: multipart/form-data; boundary=b\r\n",
}
FORM = '--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n'


@pytest.mark.parametrize("trickles", [False, True])
@pytest.mark.parametrize("path", BODIES)
async def test_a_body_that_comes_too_slowly_is_408(
    tmp_path: Path, path: str, trickles: bool, caplog: pytest.LogCaptureFixture
) -> None:
    head = f"POST {path} HTTP/1.1\r\n{KEY}{BODIES[path]}Content-Length: 100000\r\n\r\n"
    async with (
        services() as (_, address),
        edge(tmp_path, None, bounds=SHORT, addresses=dict.fromkeys(SERVICES, address)) as gateway,
        connected(gateway) as client,
    ):
        client.writer.write(head.encode())
        coming = client.trickle(FORM + "a" * 1000 if trickles else "")
        answer, _ = await asyncio.gather(client.end(), coming)
    error = refusal(answer, 408, openai=path == CHAT)
    assert (error["code"] if path == CHAT else error["reason"]).upper() == "SLOW_BODY"
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_body_that_is_large_and_comes_steadily_is_waited_for(tmp_path: Path) -> None:
    size = 100 * 50
    head = f"POST {CHAT} HTTP/1.1\r\n{KEY}Content-Length: {size}\r\n\r\n"
    async with edge(tmp_path, None, bounds=SHORT) as gateway, connected(gateway) as client:
        client.writer.write(head.encode())
        for _ in range(50):
            client.writer.write(b" " * 100)
            await asyncio.sleep(SECONDS / 10)
        refusal(await client.answer(), 400, openai=True)  # of its text, once it was there


async def test_a_gateway_that_stood_still_blames_nobody(tmp_path: Path) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\n{KEY}Content-Length: 2\r\n\r\n"
    async with (
        edge(tmp_path, None, bounds=SHORT) as gateway,
        connected(gateway) as early,
        connected(gateway) as late,
        connected(gateway) as idle,
    ):
        idle.writer.write(f"GET /healthz HTTP/1.1\r\n{KEY}\r\n".encode())
        await idle.answer()
        early.writer.write(head[:20].encode())
        late.writer.write(head.encode())
        async with gateway.client.get("/healthz") as response:
            assert response.status == 200  # so the gateway has seen what was written before
        time.sleep(3 * SECONDS)
        early.writer.write(f"{head[20:]}{{}}".encode())
        late.writer.write(b"{}")
        idle.writer.write(f"GET /healthz HTTP/1.1\r\n{KEY}\r\n".encode())
        refusal(await early.answer(), 400, openai=True)
        refusal(await late.answer(), 400, openai=True)
        assert (await idle.answer()).startswith(b"HTTP/1.1 200")


def endless(size: int = 1 << 16) -> Engine:
    """An engine that tells without end."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        while True:
            await response.write(b'data: {"choices": [{"text": "' + b"a" * size + b'"}]}\n\n')

    return Engine(answer)


def stream_of(text: str) -> bytes:
    """A request for a stream."""
    return f"POST {CHAT} HTTP/1.1\r\n{KEY}Content-Length: {len(text)}\r\n\r\n{text}".encode()


async def test_a_reader_that_stops_is_left_and_counts_no_more(tmp_path: Path) -> None:
    engine = endless()
    async with edge(tmp_path, None, engine, bounds=SHORT) as gateway, connected(gateway, takes_bytes=4096) as client:
        client.writer.write(stream_of(QUESTION))
        await client.reader.readuntil(b"\r\n\r\n")
        assert sum(gateway.proxy.in_flight.values()) == 1
        async with asyncio.timeout(WITHIN):
            await engine.left.wait()
            while sum(gateway.proxy.in_flight.values()):
                await asyncio.sleep(0)


async def test_a_reader_that_takes_its_time_gets_everything(tmp_path: Path) -> None:
    engine = endless()
    async with edge(tmp_path, None, engine, bounds=SHORT) as gateway, connected(gateway, takes_bytes=4096) as client:
        client.writer.write(stream_of(QUESTION))
        for _ in range(30):
            await client.reader.readexactly(1 << 16)
            await asyncio.sleep(SECONDS / 10)
        assert not engine.left.is_set()


async def test_an_address_holds_so_many_connections_and_no_more(tmp_path: Path) -> None:
    async with edge(tmp_path, None, most_connections_per_address=2) as gateway:
        async with connected(gateway) as first, connected(gateway) as second:
            for client in (first, second):
                client.writer.write(f"GET /healthz HTTP/1.1\r\n{KEY}\r\n".encode())
                assert (await client.answer()).startswith(b"HTTP/1.1 200")
            async with connected(gateway) as third:
                assert refusal(await third.end(), 429)["reason"] == "TOO_MANY_CONNECTIONS"
        await room_for_one(gateway)


async def test_there_are_so_many_connections_in_all_and_no_more(tmp_path: Path) -> None:
    async with edge(tmp_path, None, most_connections=1) as gateway:
        async with connected(gateway) as first:
            first.writer.write(f"GET /healthz HTTP/1.1\r\n{KEY}\r\n".encode())
            await first.answer()
            async with connected(gateway) as second:
                assert refusal(await second.end(), 503)["reason"] == "TOO_MANY_CONNECTIONS"
        await room_for_one(gateway)


async def room_for_one(gateway: Edge) -> None:
    """Connections that were closed have made room."""
    answer = b""
    async with asyncio.timeout(WITHIN):
        while not answer.startswith(b"HTTP/1.1 200"):
            async with connected(gateway) as client:
                client.writer.write(f"GET /healthz HTTP/1.1\r\n{KEY}Connection: close\r\n\r\n".encode())
                answer = await client.end()
