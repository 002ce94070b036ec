"""The admin methods that every service answers for itself: its health and its dead letters."""

from contextlib import suppress
from typing import Any, Protocol

from modelry.admin.v1 import admin_pb2 as pb
from modelry.admin.v1 import admin_pb2_grpc
from services.chassis.bus import Bus
from services.chassis.data import DeadLetter, DeadLetters, PageQuery
from services.chassis.errors import Unavailable, WrongState
from services.chassis.proto_values import service_health, timestamp_of
from services.chassis.readiness import CanDegrade, CanStopAnswering

BODY_CHARACTERS = 2000


class Health(CanStopAnswering, CanDegrade, Protocol):
    """Where the two lists of readiness come from."""


class AdminServicer(admin_pb2_grpc.AdminServiceServicer):
    """Health and dead letters of one service."""

    def __init__(self, service: str, health: Health, letters: DeadLetters, bus: Bus) -> None:
        self._service, self._health, self._letters, self._bus = service, health, letters, bus

    async def GetHealth(self, request: pb.GetHealthRequest, call: Any) -> pb.Health:
        """Return what the service lacks, with the number of its dead letters."""
        health = service_health(self._service, self._health.cannot_answer(), self._health.degraded())
        if not health.cannot_answer:
            with suppress(Unavailable):  # the database has just gone
                health.dead_letter_count = await self._letters.count()
        return pb.Health(services=[health])

    async def ListDeadLetters(self, request: pb.ListDeadLettersRequest, call: Any) -> pb.ListDeadLettersResponse:
        """List a page of letters, newest first."""
        if request.service not in ("", self._service):
            return pb.ListDeadLettersResponse()
        size = PageQuery.of(request).limit
        letters = await self._letters.page(size + 1, request.page_token)
        page = letters[:size]
        token = page[-1].id if len(letters) > size else ""
        return pb.ListDeadLettersResponse(dead_letters=map(self._message, page), next_page_token=token)

    async def ReplayDeadLetter(self, request: pb.ReplayDeadLetterRequest, call: Any) -> pb.DeadLetter:
        """Hand one letter to its consumer again. Raises: NotFound, WrongState, or what a consumer says to try later."""
        letter = await self._letters.get(request.dead_letter)
        if letter.replay_time is not None:
            raise WrongState(
                f"Dead letter {letter.id} was replayed at {letter.replay_time:%Y-%m-%d %H:%M:%S} UTC already.",
                reason="ALREADY_REPLAYED",
            )
        if letter.consumer == "outbox":
            raise WrongState(
                f"Dead letter {letter.id} is a terminal event that the stream refused, because another terminal event "
                "of the same resource was stored before it. There is nothing to repeat: compare both events.",
                reason="NOT_REPLAYABLE",
            )
        replay = self._bus.replays.get(letter.consumer)
        if replay is None:
            raise WrongState(
                f"Dead letter {letter.id} belongs to {letter.consumer}, and this version of {self._service} has no "
                "such consumer.",
                reason="NOT_REPLAYABLE",
            )
        return self._message(await replay(letter))

    def _message(self, letter: DeadLetter) -> pb.DeadLetter:
        same = ("id", "consumer", "subject", "event_id", "deliveries", "error")
        return pb.DeadLetter(
            service=self._service,
            body=letter.body.decode("utf-8", "replace")[:BODY_CHARACTERS],
            create_time=timestamp_of(letter.create_time),
            replay_time=timestamp_of(letter.replay_time),
            **{name: getattr(letter, name) for name in same},
        )
