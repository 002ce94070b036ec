"""`/readyz`: whether this gateway can do its work, and what is missing when it cannot."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
from aiohttp import web
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.keys import KeyRing
from services.chassis.bus import Bus
from services.chassis.rpc import channel

HEALTH_SECONDS = 1.0


class Readiness:
    """Asks every service for its health; inference only needs the keys and the routes."""

    def __init__(self, addresses: dict[str, str], keys: KeyRing, bus: Bus) -> None:
        self._keys, self._bus = keys, bus
        self._health = {name: health_pb2_grpc.HealthStub(channel(address)) for name, address in addresses.items()}

    async def handle(self, request: web.Request) -> web.Response:
        """200 when nothing is missing, else 503 with the names of what is."""
        missing = await self.missing()
        body = {"status": "ready" if not missing else "not ready", "missing": missing}
        return web.json_response(body, status=200 if not missing else 503)

    async def missing(self) -> list[str]:
        """What does not answer: services by name, `nats`, or `keys` when no key is known."""
        names = list(self._health)
        answers = await asyncio.gather(*(self._serving(name) for name in names))
        missing = [name for name, serving in zip(names, answers, strict=True) if not serving]
        if not self._bus.connected:
            missing.append("nats")
        if not len(self._keys):
            missing.append("keys")
        return missing

    async def _serving(self, name: str) -> bool:
        with contextlib.suppress(grpc.aio.AioRpcError):
            answer = await self._health[name].Check(health_pb2.HealthCheckRequest(), timeout=HEALTH_SECONDS)
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
        return False
