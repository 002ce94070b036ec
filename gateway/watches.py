"""Open watches: so many of a key and in all, and none longer than its key may watch."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway.keys import KeyRing
from services.chassis.errors import ModelryError, OverLimit, Unauthenticated
from services.clients.records import KeyRecord

RETRY_SECONDS = 5.0
Check = Callable[[], KeyRecord]
"""Returns the key of a watch as it is now. Raises: Unauthenticated, Denied: it may watch no more."""


@dataclass(eq=False)
class _Watch:
    scope: asyncio.Timeout
    check: Check | None


class Watches:
    """All watches of both doors."""

    def __init__(self, keys: KeyRing, most: int, most_per_key: int) -> None:
        self._most, self._most_per_key = most, most_per_key
        self._open: defaultdict[str, set[_Watch]] = defaultdict(set)
        keys.followers.append(self._key_changed)

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    @asynccontextmanager
    async def open(self, holder: str, check: Check | None = None) -> AsyncIterator[None]:
        """Hold a watch while the block runs, which is left when the key may watch no more.

        Args: holder: id of the key, or whatever stands for a caller without one.
        Raises: OverLimit; Unauthenticated, Denied: what has become of the key.
        """
        self._refuse_too_many(holder)
        watch = _Watch(asyncio.timeout(None), check)
        self._open[holder].add(watch)
        try:
            async with watch.scope:
                self._look(watch)
                yield
        except TimeoutError as error:
            if watch.scope.expired() and check is not None:
                check()
                raise Unauthenticated("The API key has expired. Make or rotate a key.") from error
            raise
        finally:
            self._open[holder].discard(watch)
            if not self._open[holder]:
                del self._open[holder]

    def _refuse_too_many(self, holder: str) -> None:
        words = ""
        if len(self._open.get(holder, ())) >= self._most_per_key:
            words = f"{self._most_per_key} watches are open with this key; close some."
        elif len(self) >= self._most:
            words = "There are too many watches now; try again later."
        if words:
            raise OverLimit(words, reason="TOO_MANY_WATCHES", retry_seconds=RETRY_SECONDS)

    def _key_changed(self, key_id: str) -> None:
        for watch in self._open.get(key_id, ()):
            self._look(watch)

    def _look(self, watch: _Watch) -> None:
        """Let a watch end when its key does."""
        if watch.check is None or watch.scope.expired():
            return
        loop_time = asyncio.get_running_loop().time()
        try:
            expire_time = watch.check().expire_time
        except ModelryError:
            watch.scope.reschedule(loop_time)
            return
        watch.scope.reschedule(None if expire_time is None else loop_time + expire_time - time.time())
