"""Which gateways there are, and which version of each route they have applied."""

import json
import time

from services.chassis.bus import Bus

SUBJECT = "modelry.gateway.*.*"
_WARM_UP_SECONDS = 6.0


class Gateways:
    """Listens to the gateways. A drain waits until each has said that it knows."""

    def __init__(self, gone_seconds: float) -> None:
        """A gateway that was silent for `gone_seconds` is gone."""
        self._gone_seconds = gone_seconds
        self._heard: dict[str, float] = {}
        self._applied: dict[str, dict[str, int]] = {}
        self._since: float | None = None

    async def listen(self, bus: Bus) -> None:
        """Listen to them from now on."""
        self._since = time.monotonic()
        await bus.listen(SUBJECT, self.heard)

    def heard(self, subject: str, data: bytes) -> None:
        """Note a message of a gateway: that it is alive, or which route it has applied."""
        parts = subject.split(".")
        try:
            body = json.loads(data)
            if len(parts) == 4 and parts[3] == "routes":
                self._applied.setdefault(parts[2], {})[str(body["deployment_id"])] = int(body["version"])
        except (ValueError, KeyError, TypeError):
            return
        self._heard[parts[2]] = time.monotonic()

    def know(self, deployment_id: str, version: int) -> bool:
        """Return whether every gateway has applied this version of a route, or a later one."""
        now = time.monotonic()
        if self._since is None or now - self._since < _WARM_UP_SECONDS:
            return False  # one that is there may not have spoken yet
        living = [name for name, heard in self._heard.items() if now - heard <= self._gone_seconds]
        return all(self._applied.get(name, {}).get(deployment_id, -1) >= version for name in living)
