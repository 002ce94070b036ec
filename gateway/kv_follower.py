"""Keeps the gateway's view of keys and routes up to date, and tells serving which routes it has applied."""

import asyncio
import contextlib
import json
import logging
from pathlib import Path
from typing import Any

from gateway.keys import KeyRing
from gateway.routes import RouteView
from services.chassis.background import BackgroundLoop
from services.chassis.bus import Bus, KvReader
from services.chassis.errors import ModelryError
from services.clients.records import KEY_BUCKET, ROUTE_BUCKET

ALIVE_SECONDS = 5.0
_log = logging.getLogger(__name__)


class KvFollower:
    """Follows the buckets of keys and of routes; both are kept in the state folder."""

    def __init__(self, bus: Bus, keys: KeyRing, routes: RouteView, folder: Path, gateway_id: str) -> None:
        self._bus, self._keys, self._routes, self._id = bus, keys, routes, gateway_id
        self._key_reader = KvReader(bus, KEY_BUCKET, self._key_changed, folder / "keys.json")
        self._route_reader = KvReader(bus, ROUTE_BUCKET, self._route_changed, folder / "routes.json")
        self._alive = BackgroundLoop("sign of life", self._say_alive, ALIVE_SECONDS)
        self._sending: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Load what is known from before, then follow."""
        await self._key_reader.start()
        await self._route_reader.start()
        await self._alive.start()

    async def stop(self) -> None:
        """Stop following and keep what is known."""
        await self._alive.stop()
        await self._key_reader.stop()
        await self._route_reader.stop()

    def _key_changed(self, digest: str, value: Any) -> None:
        try:
            self._keys.apply(digest, value)
        except (KeyError, ValueError, TypeError):
            _log.warning("a key record cannot be read")

    def _route_changed(self, deployment_id: str, value: Any) -> None:
        try:
            route = self._routes.apply(deployment_id, value)
        except (KeyError, ValueError, TypeError):
            _log.warning("the route of %s cannot be read", deployment_id)
            return
        if route is not None:
            self._send("routes", {"deployment_id": route.deployment_id, "version": route.version})

    async def _say_alive(self) -> None:
        self._send("alive", {"gateway": self._id})

    def _send(self, word: str, data: dict[str, Any]) -> None:
        """Publish without waiting; what is lost is said again by the next change or the next reader."""
        task = asyncio.create_task(self._publish(f"modelry.gateway.{self._id}.{word}", json.dumps(data).encode()))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _publish(self, subject: str, data: bytes) -> None:
        with contextlib.suppress(ModelryError):
            session = self._bus.now()
            await session.call(session.client.publish(subject, data))
