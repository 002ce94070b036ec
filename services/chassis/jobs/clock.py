"""How long workers ran, counted on this process's monotonic clock while they are seen running."""

import time
from collections.abc import Callable

Key = tuple[str, int]
"""Job and attempt."""


class RunClock:
    """Running time that is not written down yet. What nobody saw (the service was down) is not counted."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[Key, float] = {}
        self._seconds: dict[Key, float] = {}

    def running(self, key: Key) -> None:
        """Note that the worker of this attempt was just seen running."""
        now = self._clock()
        self._seconds[key] = self._seconds.get(key, 0.0) + now - self._seen.get(key, now)
        self._seen[key] = now

    def over(self, key: Key) -> None:
        """Note that the worker of this attempt was just seen not running."""
        if self._seen.pop(key, None) is not None:
            self._seconds.setdefault(key, 0.0)

    def pending(self, key: Key) -> float:
        """Return the seconds not taken yet."""
        return self._seconds.get(key, 0.0)

    def take(self) -> dict[Key, float]:
        """Take everything not taken yet, to be stored."""
        taken, self._seconds = {key: value for key, value in self._seconds.items() if value > 0}, {}
        return taken

    def give_back(self, seconds: dict[Key, float]) -> None:
        """Add back what was taken and could not be stored."""
        for key, value in seconds.items():
            self._seconds[key] = self._seconds.get(key, 0.0) + value
