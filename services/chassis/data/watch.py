"""How a service tells its watchers of changes: inside the process, and without losing or repeating any.

A watcher subscribes first, then reads the resource as it is, then drops what is not newer than what it has seen.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Generic, Protocol, TypeVar

from services.chassis.rpc import opened

QUEUE_LENGTH = 256
"""Changes held for one slow watcher; beyond it the watcher reads the resource anew instead."""

POLL_SECONDS = 5.0
"""How often a watcher looks by itself, for changes that another process made."""


class Versioned(Protocol):
    """A resource whose version grows with every change."""

    @property
    def version(self) -> int:
        """Grows with every change."""


R = TypeVar("R", bound=Versioned)


class Watchers(Generic[R]):
    """The watchers of one kind of resource, by its id."""

    def __init__(self, poll_seconds: float = POLL_SECONDS) -> None:
        self._queues: dict[str, set[asyncio.Queue[R | None]]] = {}
        self._poll_seconds = poll_seconds

    def notify(self, key: str, value: R | None = None) -> None:
        """Tell the watchers of `key` that it became `value`; None: read it again. Call it after the commit."""
        for queue in self._queues.get(key, ()):
            try:
                queue.put_nowait(value)
            except asyncio.QueueFull:
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(None)

    @contextmanager
    def subscribe(self, key: str) -> Iterator[asyncio.Queue[R | None]]:
        """Give a queue of the changes of `key` from now on."""
        queue: asyncio.Queue[R | None] = asyncio.Queue(QUEUE_LENGTH)
        queues = self._queues.setdefault(key, set())
        queues.add(queue)
        try:
            yield queue
        finally:
            queues.discard(queue)
            if not queues and self._queues.get(key) is queues:
                del self._queues[key]

    async def follow(
        self,
        key: str,
        read: Callable[[], Awaitable[R]],
        ended: Callable[[R], bool],
        after_version: int = 0,
        pulses: bool = False,
    ) -> AsyncIterator[R]:
        """Yield the resource as `read` gives it now, then each newer version, up to and with one that has `ended`.

        It begins with what is newer than `after_version`; when that is above the present version, as after a restore of
        an older copy, with the present state. With `pulses` a notice without a value yields the resource again even if
        its version is the same: its high-rate part (progress) has changed.
        """
        with self.subscribe(key) as queue:
            current = await read()
            await opened()
            # A version above ours is of a state that a restore has undone: its watcher must see what is there now.
            if current.version != after_version or ended(current):
                yield current
            seen = current.version
            while not ended(current):
                value, pulse = await self._next(queue)
                current = value if value is not None else await read()
                if current.version > seen or (pulses and pulse):
                    yield current
                    seen = max(seen, current.version)

    async def wait(self, queue: asyncio.Queue[R | None], seconds: float) -> None:
        """Return at the next notice on a subscribed queue, or after `seconds`, with the queue empty."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await queue.get()
        while not queue.empty():
            queue.get_nowait()

    async def _next(self, queue: asyncio.Queue[R | None]) -> tuple[R | None, bool]:
        try:
            async with asyncio.timeout(self._poll_seconds):
                value = await queue.get()
        except TimeoutError:
            return None, False
        if value is None:  # several pulses are one
            while not queue.empty() and (value := queue.get_nowait()) is None:
                pass
        return value, value is None
