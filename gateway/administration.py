"""The admin methods at the gateway: asks every service at once, and joins what they answer."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from gateway.context import Metadata
from gateway.readiness import Readiness
from modelry.admin.v1 import admin_pb2 as pb
from services.chassis.auth import Principal, Role
from services.chassis.errors import Invalid, NotFound, Unavailable, from_rpc_error

SECONDS = 10.0
DEFAULT_PAGE = 50


class Administration:
    """`modelry.admin.v1.AdminService` for the installation."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness, self._stubs = readiness, readiness.stubs

    async def call(self, method: str, request: Any, principal: Principal, metadata: Metadata) -> Any:
        """Answer one method of the service. Raises: ModelryError."""
        principal.require(Role.ADMIN)
        if method == "GetHealth":
            return await self._readiness.health()
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
        token = page[size - 1].id if more or len(page) > size else ""
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
