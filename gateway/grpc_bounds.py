"""The bounds of each call at the gRPC door: who calls, from how many connections, and how slowly it may read."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from gateway.addresses import FORWARDED, Places, TrustedProxies, address_of_grpc
from gateway.connections import Bounds
from services.chassis.errors import TooSlow
from services.chassis.rpc import MESSAGE_BYTES

STREAMS = 256
"""The most calls at once on one connection."""
PING_SECONDS = 60.0
"""How often a silent connection is asked for a sign of life."""


class ReaderStopped(Exception):
    """The client does not read what it asked for: there is nobody to answer."""


class BoundedCall:
    """A call whose client must read."""

    def __init__(self, call: Any, seconds: float) -> None:
        self._call, self._seconds = call, seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    async def write(self, message: Any) -> None:
        """Write. Raises: ReaderStopped."""
        try:
            async with asyncio.timeout(self._seconds) as scope:
                await self._call.write(message)
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise ReaderStopped from error


class BoundedRequests:
    """The messages of a call whose client must send them. Raises: TooSlow."""

    def __init__(self, requests: AsyncIterator[bytes], seconds: float) -> None:
        self._requests, self._seconds = requests, seconds

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            async with asyncio.timeout(self._seconds):
                return await anext(self._requests)
        except TimeoutError as error:
            raise TooSlow(f"No message came for {self._seconds:g} s.") from error


class Callers:
    """Who calls, and from how many connections at once."""

    def __init__(self, places: Places, proxies: TrustedProxies, bounds: Bounds) -> None:
        self._places, self._proxies, self._bounds = places, proxies, bounds
        self._calls = Counter[tuple[str, str]]()

    def bounded(self, requests: AsyncIterator[bytes], call: Any) -> tuple[AsyncIterator[bytes], Any]:
        """Return the messages of a call, and the call, whose client must send and read."""
        bounds = self._bounds
        return BoundedRequests(requests, bounds.body_seconds), BoundedCall(call, bounds.write_seconds)

    @contextmanager
    def place(self, call: Any) -> Iterator[str]:
        """Count the connection of a call while the block runs, once for all its calls. Yields: the caller's address.

        Raises: OverLimit: the address holds too many. Invalid: a trusted proxy forwards what is no address.
        """
        peer = call.peer()
        address = address_of_grpc(peer)
        if self._proxies.trust(address):
            texts = [value for key, value in call.invocation_metadata() or () if key == FORWARDED.lower()]
            address = self._proxies.client_of(address, texts)
        connection = peer, address
        if not self._calls[connection]:
            self._places.take(address)
        self._calls[connection] += 1
        try:
            yield address
        finally:
            self._calls[connection] -= 1
            if not self._calls[connection]:
                del self._calls[connection]
                self._places.give(address)


def server_options(bounds: Bounds, most_connections: int) -> Sequence[tuple[str, Any]]:
    """Return the options of the server."""
    return [
        ("grpc.max_receive_message_length", MESSAGE_BYTES),
        ("grpc.max_send_message_length", MESSAGE_BYTES),
        ("grpc.so_reuseport", 0),
        ("grpc.max_allowed_incoming_connections", most_connections),
        ("grpc.max_concurrent_streams", STREAMS),
        ("grpc.server_handshake_timeout_ms", int(bounds.head_seconds * 1000)),
        ("grpc.http2.settings_timeout", int(bounds.head_seconds * 1000)),
        ("grpc.max_connection_idle_ms", int(bounds.idle_seconds * 1000)),
        ("grpc.keepalive_time_ms", int(PING_SECONDS * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
