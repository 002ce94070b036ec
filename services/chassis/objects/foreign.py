"""Work at stores that are not ours, from a process that others need too.

    stores = ForeignStores()
    page = await stores.run(project, access, lambda: store.list_page(bucket))

Such a store may answer never, or for ever. Its work has threads of its own, of which a project has a share, and ends at
a deadline as a whole; the thread is free then too. Work at the installation's own store goes to the common threads.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar
from weakref import WeakValueDictionary

from services.chassis.errors import OverLimit, Unavailable
from services.chassis.objects.access import StoreAccess
from services.chassis.objects.pace import ending_at

R = TypeVar("R")
SECONDS = 20.0
"""How long an operation may take, with the time that it waits for its turn."""
_THREADS = 16
_SHARE = 4
_GRACE_SECONDS = 2.0
"""How much later than the deadline an answer is still waited for: it says what the store did."""


class ForeignStores:
    """A pool of threads for stores of credentials."""

    def __init__(self, *, threads: int = _THREADS, share: int = _SHARE) -> None:
        """Args: share: operations of one project at once; the others wait for their turn."""
        self._places, self._share = asyncio.Semaphore(threads), share
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def run(
        self, project: str, access: StoreAccess, operation: Callable[[], R], *, seconds: float = SECONDS
    ) -> R:
        """Return what an operation at a store returns.

        Raises: OverLimit: the project's other operations took too long. Unavailable: this one did. What it raises.
        """
        if access.foreign is None:
            return await asyncio.to_thread(operation)
        end = time.monotonic() + seconds
        turns = self._turns.setdefault(project, asyncio.Semaphore(self._share))
        await self._turn(turns, seconds)
        work = _in_thread(end, operation)
        work.add_done_callback(lambda done: self._ended(done, turns))
        try:
            async with asyncio.timeout(max(0.0, end - time.monotonic()) + _GRACE_SECONDS):
                return await asyncio.shield(work)
        except TimeoutError as error:
            raise _slow(access) from error

    async def _turn(self, turns: asyncio.Semaphore, seconds: float) -> None:
        """Wait for a place among those of the project, and then for one of all."""
        try:
            async with asyncio.timeout(seconds):
                await turns.acquire()
                try:
                    await self._places.acquire()
                except BaseException:
                    turns.release()
                    raise
        except TimeoutError as error:
            message = f"Too many operations at object stores of credentials are under way ({self._share} of a project)."
            raise OverLimit(message, reason="STORE_SHARE_USED", retry_seconds=5) from error

    def _ended(self, done: asyncio.Future[R], turns: asyncio.Semaphore) -> None:
        """Give the place back when the thread is free, whether or not somebody still waits for the answer."""
        self._places.release()
        turns.release()
        if not done.cancelled():
            done.exception()


def _in_thread(end: float, operation: Callable[[], R]) -> asyncio.Future[R]:
    """Begin an operation in a thread that does not keep the process from ending."""
    context, done = contextvars.copy_context(), Future[R]()
    done.set_running_or_notify_cancel()

    def work() -> None:
        try:
            done.set_result(context.run(_until, end, operation))
        except BaseException as error:
            done.set_exception(error)

    Thread(target=work, name="foreign-store", daemon=True).start()
    return asyncio.wrap_future(done)


def _until(end: float, operation: Callable[[], R]) -> R:
    with ending_at(end):
        return operation()


def _slow(access: StoreAccess) -> Unavailable:
    message = f"The object store {access.name} takes too long to answer."
    return Unavailable(message, reason="STORE_TOO_SLOW", metadata={"endpoint": access.name}, retry_seconds=30)
