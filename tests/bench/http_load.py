"""A lean HTTP/1.1 load: keep-alive connections that send ready bytes, one call after another on each.

A client library would spend more on a call than the servers that are measured; this one reads a status, a length and
the body, and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

MakeRequest = Callable[[int, int], bytes]
"""The bytes of a call, by the number of the connection and of the call on it."""


@dataclass(frozen=True)
class Slice:
    """What a stretch of load came to."""

    calls: int
    refused: int
    seconds: float
    client_cpu_seconds: float

    @property
    def rate(self) -> float:
        """Answered calls a second."""
        return self.calls / self.seconds


class Load:
    """Load on one server. Each call of a method opens its connections, before any clock runs, and closes them."""

    def __init__(self, host: str, port: int, connections: int) -> None:
        self._host, self._port, self.size = host, port, connections

    async def ask(self, request: bytes) -> Any:
        """The JSON of one answer. Raises: RuntimeError: it was refused."""
        async with self._open(1) as (connection,):
            status, body = await connection.call(request)
        if status != 200:
            raise RuntimeError(f"the server refused a call: {status} {body[:300]!r}")
        return json.loads(body)

    async def send(self, calls: int, make: MakeRequest) -> None:
        """So many calls. Raises: RuntimeError: one was refused."""
        refused = (await self._run(make, calls // self.size, float("inf"))).refused
        if refused:
            raise RuntimeError(f"the server refused {refused} of {calls} calls")

    async def run(self, seconds: float, make: MakeRequest) -> Slice:
        """Calls on all connections for some seconds."""
        return await self._run(make, sys.maxsize, seconds)

    async def _run(self, make: MakeRequest, calls: int, seconds: float) -> Slice:
        async with self._open(self.size) as connections:
            began, cpu = time.monotonic(), time.process_time()
            each = [self._until(one, number, make, calls, began + seconds) for number, one in enumerate(connections)]
            counts = await asyncio.gather(*each)
            took, spent = time.monotonic() - began, time.process_time() - cpu
        good, refused = (sum(count[place] for count in counts) for place in (0, 1))
        return Slice(good, refused, took, spent)

    @asynccontextmanager
    async def _open(self, size: int) -> AsyncIterator[list[_Connection]]:
        loop = asyncio.get_running_loop()
        opened: list[_Connection] = []
        try:
            for _ in range(size):
                opened.append((await loop.create_connection(_Connection, self._host, self._port))[1])
            yield opened
        finally:
            for connection in opened:
                connection.close()

    async def _until(
        self, connection: _Connection, number: int, make: MakeRequest, calls: int, end: float
    ) -> tuple[int, int]:
        good = refused = 0
        while good + refused < calls and time.monotonic() < end:
            try:
                status, _ = await connection.call(make(number, good + refused))
            except ConnectionError:  # MLflow's supervisor kills a worker that a busy machine kept from answering it
                return good, refused + 1
            if status == 200:
                good += 1
            else:
                refused += 1
        return good, refused


class _Connection(asyncio.Protocol):
    """One connection; a call at a time."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note where to write."""
        self._transport = transport

    def call(self, request: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """Send a request; the future holds status and body of its answer."""
        self._answer = asyncio.get_running_loop().create_future()
        if self._transport.is_closing():
            self._answer.set_exception(ConnectionResetError("the server closed the connection"))
        else:
            self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        """Complete the call once its answer is whole."""
        self._seen += data
        end = self._seen.find(b"\r\n\r\n")
        if end < 0 or self._answer is None:
            return
        length = _LENGTH.search(self._seen, 0, end + 2)
        if length is None:
            self._answer.set_exception(RuntimeError(f"an answer without a length: {self._seen[:200]!r}"))
        elif len(self._seen) >= end + 4 + int(length[1]):
            status, body = int(self._seen[9:12]), self._seen[end + 4 :]
            self._seen = b""
            self._answer.set_result((status, body))

    def connection_lost(self, error: Exception | None) -> None:
        """Fail the call under way."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("the server closed the connection"))

    def close(self) -> None:
        """End the connection."""
        self._transport.close()


def request_bytes(method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """A request as it is sent."""
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", *(f"{name}: {value}" for name, value in headers.items())]
    if body:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def json_request(method: str, path: str, headers: Mapping[str, str], value: Mapping[str, Any]) -> bytes:
    """A request with JSON as it is sent."""
    return request_bytes(method, path, headers, json.dumps(value).encode())
