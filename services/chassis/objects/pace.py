"""How long an operation at a foreign store may take, and how much it may answer.

Every read of an answer passes here, so that bytes that trickle end as surely as silence does.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

HEAD_BYTES = 1 << 20
ANSWER_BYTES = 32 << 20
"""Longest answer that is read whole: a page of 1,000 keys has 2 MiB at most."""
LEAST_BYTES_PER_SECOND = 1024
WINDOW_SECONDS = 30.0
"""The least rate counts in windows of so many seconds that were spent waiting for the store."""

_end: ContextVar[float | None] = ContextVar("end", default=None)
whole_answer: ContextVar[bool] = ContextVar("whole_answer", default=True)
"""Whether the request under way reads its answer whole, and not as a stream."""


class BrokenRule(OSError):
    """A foreign store does what none may do. `reason` is that of our error; the words say what it does."""

    def __init__(self, reason: str, words: str) -> None:
        super().__init__(words)
        self.reason, self.words = reason, words


@contextmanager
def ending_at(moment: float) -> Iterator[None]:
    """End everything that is done at foreign stores in this context at a moment of the monotonic clock."""
    token = _end.set(moment)
    try:
        yield
    finally:
        _end.reset(token)


def seconds_left(longest: float | None = None) -> float | None:
    """Return how long one step may take. Raises: BrokenRule: the whole operation has taken too long."""
    end = _end.get()
    if end is None:
        return longest
    left = end - time.monotonic()
    if left <= 0:
        raise too_slow()
    return left if longest is None else min(longest, left)


def too_slow() -> BrokenRule:
    """Return the error for a store that takes too long."""
    return BrokenRule("STORE_TOO_SLOW", "takes too long to answer")


class PacedSocket(io.RawIOBase):
    """What a socket says, within the deadline, at the least rate, and not more than `limit_bytes`."""

    def __init__(self, sock: Any) -> None:
        super().__init__()
        self.limit_bytes: int | None = HEAD_BYTES
        self._socket, self._raw = sock, sock.makefile("rb", buffering=0)
        self._waited, self._bytes = 0.0, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read what is there. Raises: BrokenRule."""
        self._check_rate()
        patience = self._socket.gettimeout()
        began = time.monotonic()
        self._socket.settimeout(seconds_left(patience))
        try:
            count: int = self._raw.readinto(buffer) or 0
        except TimeoutError:
            seconds_left()  # says so if it was the whole operation's deadline
            raise
        finally:
            self._waited += time.monotonic() - began
        self._socket.settimeout(patience)
        self._bytes += count
        if self.limit_bytes is not None:
            self.limit_bytes -= count
            if self.limit_bytes < 0:
                raise BrokenRule("STORE_MALFORMED", "answers more than any object store does")
        return count

    def close(self) -> None:
        """Let the socket go."""
        self._raw.close()
        super().close()

    def _check_rate(self) -> None:
        if self._waited < WINDOW_SECONDS:
            return
        if self._bytes < LEAST_BYTES_PER_SECOND * self._waited:
            raise BrokenRule("STORE_TOO_SLOW", f"sends less than {LEAST_BYTES_PER_SECOND} bytes a second")
        self._waited, self._bytes = 0.0, 0
