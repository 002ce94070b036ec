"""Who is silent for too long. Pure counting on one monotonic clock: no bus, no database."""

import hmac
import time
from collections.abc import Callable


class Leases:
    """When each worker was heard last, and whether this service may judge silence at all.

    Silence counts from zero after every start and every reconnect, and only while the service hears the bus and has
    applied every report stored before it began to judge: until then a worker may have spoken without being heard.
    """

    def __init__(
        self, lease_seconds: float, clock: Callable[[], float] = time.monotonic, *, start_seconds: float = 0.0
    ) -> None:
        """Args: start_seconds: what a worker that was never heard may take, if that is longer than its lease."""
        self._lease_seconds = lease_seconds
        self._start_seconds = max(lease_seconds, start_seconds)
        self._clock = clock
        self._judging_since: float | None = None
        self._secrets: dict[str, str] = {}
        self._heard: dict[str, float] = {}
        self._first_look: dict[str, float] = {}

    def begin(self) -> None:
        """Count silence from zero: from now on this service hears everything."""
        self._judging_since = self._clock()

    def deafen(self) -> None:
        """Conclude nothing from silence while the bus is away."""
        self._judging_since = None

    def expect(self, launch_id: str, secret: str) -> None:
        """From now on believe heartbeats of a worker that carry its secret."""
        self._secrets[launch_id] = secret

    def beat(self, launch_id: str, secret: str) -> bool:
        """Note a heartbeat. Returns whether it was believed: one of an unknown worker leaves nothing behind."""
        known = self._secrets.get(launch_id)
        believed = known is not None and hmac.compare_digest(known.encode(), secret.encode("utf-8", "replace"))
        if believed:
            self.heard(launch_id)
        return believed

    def heard(self, launch_id: str) -> None:
        """Note that a sign of life of this worker came."""
        self._heard[launch_id] = self._clock()

    def silence(self, launch_id: str) -> float:
        """Return seconds of silence that count against the worker; 0 while the service may not judge."""
        if self._judging_since is None:
            return 0.0
        heard = self._heard.get(launch_id)
        if heard is None:
            heard = self._first_look.setdefault(launch_id, self._clock())
        return self._clock() - max(heard, self._judging_since)

    def expired(self, launch_id: str) -> bool:
        """Return whether the worker was silent for longer than its lease."""
        limit = self._lease_seconds if launch_id in self._heard else self._start_seconds
        return self.silence(launch_id) > limit

    def forget(self, launch_id: str) -> None:
        """Forget a worker that has ended."""
        self._secrets.pop(launch_id, None)
        self._heard.pop(launch_id, None)
        self._first_look.pop(launch_id, None)
