"""The body of a request: read by whoever needs it, only as far as it may go, never unpacked, and parsed off the loop.

A client that waits for `100 Continue` gets it from `open_body`: whoever is refused before never sends its body.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from aiohttp import HttpVersion11, web
from aiohttp.web_protocol import RequestPayloadError

from services.chassis.errors import Invalid, TooLarge, UnsupportedEncoding

NATIVE_BYTES = 1 << 20
"""The most of a native call; a file is uploaded."""
UPLOAD_BYTES = (1 << 30) + NATIVE_BYTES
"""The largest file, with what a form has around it; the service that keeps files counts its bytes."""
INFERENCE_BYTES = 32 << 20
LARGE_BYTES = 16 << 10
"""What is larger is read and written in a thread."""
MOST_OBJECTS, MOST_VALUES = 200_000, 2_000_000
"""Bounds of what a parser makes of one body; a question of a million tokens is far below. The parser of inference calls
holds the interpreter until it is done, in a thread too: this many take it a tenth of a second."""
HANDLER_ARGUMENTS: dict[str, Any] = {"auto_decompress": False, "lingering_time": 2.0}
"""For the server: it unpacks nothing, and drops what nobody read of a body for two seconds."""

P = ParamSpec("P")
T = TypeVar("T")
_parsers = ThreadPoolExecutor(2, "parse")


async def expect_nothing(request: web.Request) -> None:
    """Stand in for the server's own `100 Continue`, which it says before anybody has looked at the request."""


async def open_body(request: web.Request, most: int) -> None:
    """Let the client send its body, after a look at what its head says. Raises: UnsupportedEncoding, TooLarge."""
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding != "identity":
        message = f"The body is packed ({encoding[:50]!r}); send it as it is, without Content-Encoding."
        raise UnsupportedEncoding(message, field="Content-Encoding")
    if (request.content_length or 0) > most:
        raise TooLarge.over(most)
    if request.headers.get("Expect", "").lower() == "100-continue" and request.version == HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer has not begun


async def read(request: web.Request, most: int) -> bytes:
    """Return the body. Raises: UnsupportedEncoding, TooLarge, Invalid: its framing is broken."""
    if not request.can_read_body:
        return b""
    await open_body(request, most)
    body = bytearray()
    try:
        while chunk := await request.content.readany():
            body += chunk
            if len(body) > most:
                raise TooLarge.over(most)
    except RequestPayloadError as error:
        raise Invalid("The body's framing is broken.", field="body", reason="INVALID_BODY") from error
    return bytes(body)


async def parsed(raw: bytes, parse: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what a function makes of a body, off the loop where it is large. Raises: TooLarge; what it raises."""
    if len(raw) > LARGE_BYTES and (_objects(raw) > MOST_OBJECTS or raw.count(b",") > MOST_VALUES):
        limit = {"most_objects": str(MOST_OBJECTS), "most_values": str(MOST_VALUES)}
        raise TooLarge("The body holds too many objects, lists or values.", field="body", metadata=limit)
    return await off_loop(len(raw), parse, *args, **kwargs)


def _objects(raw: bytes) -> int:
    return raw.count(b"{") + raw.count(b"[") + raw.count(b":")


async def off_loop(size_bytes: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return the result of work on so many bytes: of a thread where they are many."""
    if size_bytes <= LARGE_BYTES:
        return work(*args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_parsers, lambda: work(*args, **kwargs))
