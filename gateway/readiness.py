"""Whether the installation can do its work, and what it lacks: `/readyz`, and the health that admins see.

Two lists: without what is in `cannot_answer` some call cannot be answered (503); what is in `degraded` stands still
while calls are answered (200), so that no probe turns an outage of the store into one of the house.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
from aiohttp import web

from gateway.context import Channels, Metadata
from gateway.keys import KeyRing
from modelry.admin.v1 import admin_pb2 as pb
from modelry.admin.v1 import admin_pb2_grpc
from services.chassis import telemetry
from services.chassis.auth import Principal, Role, TokenIssuer
from services.chassis.proto_values import service_health
from services.chassis.readiness import CanDegrade, LackLog

HEALTH_SECONDS = 2.0
_CALLER = Principal("", Role.ADMIN, "", "service", "gateway")


class Readiness:
    """Asks every service for its health; inference only needs the keys and the routes."""

    def __init__(self, channels: Channels, keys: KeyRing, parts: Sequence[CanDegrade], issuer: TokenIssuer) -> None:
        """`parts` of the gateway may stand still while it answers."""
        self._keys, self._parts, self._issuer = keys, parts, issuer
        self.stubs: dict[str, Any] = {
            name: admin_pb2_grpc.AdminServiceStub(channel) for name, channel in channels.items()
        }
        self._own, self._silent = LackLog(), LackLog()

    async def handle(self, request: web.Request) -> web.Response:
        """Answer 200 unless something cannot be answered, else 503; with names and since when, and without details."""
        health = await self.health()
        lacks = {
            word: [
                {"service": one.service, "name": lack.name, "since_time": lack.since_time.ToJsonString()}
                for one in health.services
                for lack in getattr(one, word)
            ]
            for word in ("cannot_answer", "degraded")
        }
        ready = not lacks["cannot_answer"]
        body = {"status": "ready" if ready else "not ready", **lacks}
        return web.json_response(body, status=200 if ready else 503)

    async def health(self) -> pb.Health:
        """Return the health of every service, asked now, and of this gateway."""
        trace: dict[str, str] = {}
        telemetry.inject(trace)
        metadata = (("authorization", f"Bearer {self._issuer.issue(_CALLER)}"), *trace.items())
        answers = await asyncio.gather(*(self._ask(name, metadata) for name in self.stubs))
        return pb.Health(services=[*answers, self._gateway()])

    def _gateway(self) -> pb.ServiceHealth:
        if len(self._keys):
            self._own.clear("keys")
        else:
            self._own.note("keys", "No API key is known yet: the keys were never read from NATS.")
        degraded = [lack for part in self._parts for lack in part.degraded()]
        return service_health("gateway", self._own.all(), degraded)

    async def _ask(self, name: str, metadata: Metadata) -> pb.ServiceHealth:
        try:
            answer = await self.stubs[name].GetHealth(pb.GetHealthRequest(), metadata=metadata, timeout=HEALTH_SECONDS)
        except grpc.aio.AioRpcError as error:
            self._silent.note(name, f"The service {name} does not answer ({error.code().name}).")
            return service_health(name, [lack for lack in self._silent.all() if lack.name == name], [])
        self._silent.clear(name)
        health: pb.ServiceHealth = answer.services[0]
        return health
