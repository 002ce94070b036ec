"""A relay in front of a gRPC server that loses the first answer: the work is done, and its caller is not told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

FRAME_HEAD = 9
DATA, HEADERS = 0, 1
"""HTTP/2's types of frames (RFC 9113, section 6): an answer begins with HEADERS, its message is DATA."""


class LosingRelay:
    """Passes bytes on; at the first frame of a type that comes back, the caller's connection breaks."""

    def __init__(self, target: str, frame: int) -> None:
        self._frame = frame
        self._host, _, self._port = target.rpartition(":")
        self.lost = 0
        self.address = ""

    async def _serve(self, caller: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        answers, on = await asyncio.open_connection(self._host, int(self._port))
        asking = asyncio.create_task(_pass_on(caller, on))
        try:
            await self._answer(answers, back)
        finally:
            asking.cancel()
            on.close()
            back.close()

    async def _answer(self, answers: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await answers.readexactly(FRAME_HEAD)
                body = await answers.readexactly(int.from_bytes(head[:3]))
                if head[3] == self._frame and not self.lost:
                    self.lost += 1
                    back.transport.abort()
                    return
                back.write(head + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the server has closed


async def _pass_on(caller: asyncio.StreamReader, on: asyncio.StreamWriter) -> None:
    while data := await caller.read(1 << 16):
        on.write(data)


@asynccontextmanager
async def losing_relay(target: str, frame: int = HEADERS) -> AsyncIterator[LosingRelay]:
    """A relay to `host:port`, on a port of its own. It loses what the first frame of this type begins."""
    relay = LosingRelay(target, frame)
    server = await asyncio.start_server(relay._serve, "127.0.0.1", 0)
    relay.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        server.close()
