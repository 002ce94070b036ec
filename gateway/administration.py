"""What the gateway asks all services at once: their health, for `/readyz` and for admins, and the admin methods.

Health has two lists: without what is in `cannot_answer` some call cannot be answered (503); what is in `degraded`
stands still while calls are answered (200), so that no probe turns an outage of the store into one of the house.
"""

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
from services.chassis.errors import Invalid, NotFound, Unavailable, from_rpc_error
from services.chassis.proto_values import service_health
from services.chassis.readiness import CanDegrade, LackLog
from services.chassis.rpc import validate

SECONDS = 10.0
HEALTH_SECONDS = 2.0
DEFAULT_PAGE = 50
_CALLER = Principal("", Role.ADMIN, "", "service", "gateway")


class Administration:
    """`modelry.admin.v1.AdminService` for the installation, and `/readyz`."""

    def __init__(self, channels: Channels, keys: KeyRing, parts: Sequence[CanDegrade], issuer: TokenIssuer) -> None:
        """`parts` of the gateway may stand still while it answers; without `keys` inference is not possible."""
        self._keys, self._parts, self._issuer = keys, parts, issuer
        self._stubs: dict[str, Any] = {
            name: admin_pb2_grpc.AdminServiceStub(channel) for name, channel in channels.items()
        }
        self._own, self._silent = LackLog(), LackLog()

    async def readyz(self, request: web.Request) -> web.Response:
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
        answers = await asyncio.gather(*(self._health_of(name, metadata) for name in self._stubs))
        return pb.Health(services=[*answers, self._gateway()])

    def _gateway(self) -> pb.ServiceHealth:
        if len(self._keys):
            self._own.clear("keys")
        else:
            self._own.note("keys", "No API key is known yet: the keys were never read from NATS.")
        degraded = [lack for part in self._parts for lack in part.degraded()]
        return service_health("gateway", self._own.all(), degraded)

    async def _health_of(self, name: str, metadata: Metadata) -> pb.ServiceHealth:
        try:
            answer = await self._stubs[name].GetHealth(pb.GetHealthRequest(), metadata=metadata, timeout=HEALTH_SECONDS)
        except grpc.aio.AioRpcError as error:
            self._silent.note(name, f"The service {name} does not answer ({error.code().name}).")
            return service_health(name, [lack for lack in self._silent.all() if lack.name == name], [])
        self._silent.clear(name)
        health: pb.ServiceHealth = answer.services[0]
        return health

    async def call(self, method: str, request: Any, principal: Principal, metadata: Metadata) -> Any:
        """Answer one method of the service; no service has looked at its request. Raises: ModelryError."""
        principal.require(Role.ADMIN)
        validate(request)
        if method == "GetHealth":
            return await self.health()
        if method == "ListDeadLetters":
            return await self.list_dead_letters(request, metadata)
        return await self.replay_dead_letter(request, metadata)

    async def list_dead_letters(
        self, request: pb.ListDeadLettersRequest, metadata: Metadata
    ) -> pb.ListDeadLettersResponse:
        """Return a page over all services, newest first: ids sort by time, so the token of a page is its last id."""
        if request.service and request.service not in self._stubs:
            known = ", ".join(self._stubs)
            raise Invalid(f"There is no service {request.service!r}; there are {known}.", field="service")
        names = [request.service] if request.service else list(self._stubs)
        answers = await asyncio.gather(*(self._ask(name, "ListDeadLetters", request, metadata) for name in names))
        joined, more = pb.ListDeadLettersResponse(), False
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, Unavailable):
                joined.unreachable_services.append(name)
            elif isinstance(answer, Exception):
                raise answer
            else:
                joined.dead_letters.MergeFrom(answer.dead_letters)
                more |= bool(answer.next_page_token)
        size = request.page_size or DEFAULT_PAGE
        page = sorted(joined.dead_letters, key=lambda letter: letter.id, reverse=True)
        token = page[size - 1].id if 0 < size <= len(page) and (more or len(page) > size) else ""
        unreachable = joined.unreachable_services
        return pb.ListDeadLettersResponse(
            dead_letters=page[:size], next_page_token=token, unreachable_services=unreachable
        )

    async def replay_dead_letter(self, request: pb.ReplayDeadLetterRequest, metadata: Metadata) -> pb.DeadLetter:
        """Ask all services; the one that has the letter replays it. Raises: NotFound, or what that one says."""
        asked = (self._ask(name, "ReplayDeadLetter", request, metadata) for name in self._stubs)
        answers: list[Any] = await asyncio.gather(*asked)
        for answer in answers:
            if isinstance(answer, pb.DeadLetter):
                return answer
        refusals: list[Exception] = sorted(answers, key=lambda error: (isinstance(error, NotFound), str(error)))
        raise refusals[0]

    async def _ask(self, name: str, method: str, request: Any, metadata: Metadata) -> Any:
        """Return a service's answer, or the error that it gave."""
        try:
            return await getattr(self._stubs[name], method)(request, metadata=metadata, timeout=SECONDS)
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error)
