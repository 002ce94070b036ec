"""A lean HTTP/1.1 load: keep-alive connections that send ready bytes, one call after another on each.

A client library would spend more on a call than the servers that are measured; this one reads a status, a length and
the body, and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

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
    """Connections to one server, kept open between the stretches of load. Use as `async with`."""

    def __init__(self, host: str, port: int, connections: int) -> None:
        self._host, self._port, self.size = host, port, connections
        self._open: list[_Connection] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._open:
            connection.close()

    async def _renew(self) -> list[_Connection]:
        """The connections, opened, or opened again where the server closed one for being idle."""
        loop = asyncio.get_running_loop()
        self._open = [connection for connection in self._open if connection.is_open]
        while len(self._open) < self.size:
            self._open.append((await loop.create_connection(_Connection, self._host, self._port))[1])
        return self._open

    async def ask(self, request: bytes) -> Any:
        """The JSON of one answer. Raises: RuntimeError: it was refused."""
        status, body = await (await self._renew())[0].call(request)
        if status != 200:
            raise RuntimeError(f"the server refused a call: {status} {body[:300]!r}")
        return json.loads(body)

    async def send(self, calls: int, make: MakeRequest) -> None:
        """So many calls. Raises: RuntimeError: one was refused."""
        opened = enumerate(await self._renew())
        each = [self._until(one, number, make, calls // self.size, float("inf")) for number, one in opened]
        counts = await asyncio.gather(*each)
        if refused := sum(count[1] for count in counts):
            raise RuntimeError(f"the server refused {refused} of {calls} calls")

    async def run(self, seconds: float, make: MakeRequest) -> Slice:
        """Calls on all connections for some seconds."""
        opened = enumerate(await self._renew())
        began, cpu = time.monotonic(), time.process_time()
        each = [self._until(one, number, make, 1 << 62, began + seconds) for number, one in opened]
        counts = await asyncio.gather(*each)
        took = time.monotonic() - began
        good, refused = (sum(count[place] for count in counts) for place in (0, 1))
        return Slice(good, refused, took, time.process_time() - cpu)

    @staticmethod
    async def _until(
        connection: _Connection, number: int, make: MakeRequest, calls: int, end: float
    ) -> tuple[int, int]:
        good = refused = 0
        while good + refused < calls and time.monotonic() < end:
            status, _ = await connection.call(make(number, good + refused))
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

    @property
    def is_open(self) -> bool:
        """Whether the server has not closed it."""
        return not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note where to write."""
        self._transport = transport

    def call(self, request: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """Send a request; the future holds status and body of its answer."""
        self._answer = asyncio.get_running_loop().create_future()
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
