"""The bounds of each call at the gRPC door: who calls, from how many connections, and how slowly it may read."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from gateway.addresses import FORWARDED, Places, TrustedProxies, address_of_grpc
from gateway.connections import Bounds
from services.chassis.errors import TooSlow
from services.chassis.rpc import MESSAGE_BYTES

T = TypeVar("T")
STREAMS = 256
"""The most calls at once on one connection."""
PING_SECONDS = 60.0
"""How often a silent connection is asked for a sign of life."""


class ReaderStopped(Exception):
    """The client does not read what it asked for: there is nobody to answer."""


class Patience:
    """Waits no longer than so many seconds, with one timer for all who wait: a timer of its own costs each call more.

    While anybody waits, all are looked at four times in that span; while this process stands still nobody is looked at.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._looks = seconds, 0
        self._begun: dict[asyncio.Task[Any], int] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, work: Awaitable[T]) -> T:
        """Return the result of some work; a task waits once at a time. Raises: TimeoutError."""
        task = asyncio.current_task()
        assert task is not None, "it is awaited in a task"
        self._begun[task] = self._looks
        if self._timer is None:
            self._look_later()
        try:
            return await work
        except asyncio.CancelledError as error:
            if task in self._begun or task.uncancel() > 0:
                raise  # somebody else cancels it
            raise TimeoutError from error
        finally:
            self._begun.pop(task, None)

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._seconds / 4, self._look)

    def _look(self) -> None:
        self._looks += 1
        for task in [task for task, since in self._begun.items() if self._looks - since > 4]:
            del self._begun[task]
            task.cancel()
        self._timer = None
        if self._begun:
            self._look_later()


class BoundedCall:
    """A call whose client must read."""

    def __init__(self, call: Any, patience: Patience) -> None:
        self._call, self._patience = call, patience

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    async def write(self, message: Any) -> None:
        """Write. Raises: ReaderStopped."""
        try:
            await self._patience.wait(self._call.write(message))
        except TimeoutError as error:
            raise ReaderStopped from error


class BoundedRequests:
    """The messages of a call whose client must send them. Raises: TooSlow."""

    def __init__(self, requests: AsyncIterator[bytes], patience: Patience) -> None:
        self._requests, self._patience = requests, patience

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._patience.wait(anext(self._requests))
        except TimeoutError as error:
            raise TooSlow("The next message of the call did not come in time.") from error


class Callers:
    """Who calls, and from how many connections at once."""

    def __init__(self, places: Places, proxies: TrustedProxies, bounds: Bounds) -> None:
        self._places, self._proxies = places, proxies
        self._reading, self._writing = Patience(bounds.body_seconds), Patience(bounds.write_seconds)
        self._calls = Counter[tuple[str, str]]()

    def bounded(self, requests: AsyncIterator[bytes], call: Any) -> tuple[AsyncIterator[bytes], Any]:
        """Return the messages of a call, and the call, whose client must send and read."""
        return BoundedRequests(requests, self._reading), BoundedCall(call, self._writing)

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
