"""What other parts answer while a job is prepared and started: only a refusal of its input fails it."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local.testing import RealNats
from services.chassis.errors import Conflict, Expired, ModelryError, OverLimit, TooSlow, Unauthenticated, Unavailable
from services.chassis.jobs import Attempt, Plan, Readiness, State
from tests.toy_jobs import Toy, ToyService, ToyStage, running, toy_settings

pytestmark = pytest.mark.integration

TROUBLES = [
    Unauthenticated("The call's token is not valid or has run out.", reason="INVALID_TOKEN"),
    ModelryError("Something went wrong inside."),
    OverLimit("Slowly."),
    TooSlow("Too slow."),
    Expired("Kept no longer."),
    Conflict("Changed."),
    Unavailable("Away."),
]


class Troubled(ToyStage):
    """A stage whose peers are in trouble when they are first asked."""

    def __init__(self, trouble: ModelryError) -> None:
        super().__init__(self._prepared)
        self._trouble = trouble
        self.met: list[str] = []

    def _meet(self, where: str) -> None:
        if where not in self.met:
            self.met.append(where)
            raise self._trouble

    def _prepared(self, _: Toy) -> Readiness:
        self._meet("prepare")
        return Readiness(True)

    async def plan(self, job: Toy, attempt: Attempt) -> Plan:
        self._meet("plan")
        return await super().plan(job, attempt)


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda one: type(one).__name__)
async def test_a_peer_in_trouble_fails_no_job(tmp_path: Path, nats_server: RealNats, trouble: ModelryError) -> None:
    stage = Troubled(trouble)
    passwords, secret = nats_server.passwords["services"], nats_server.token_secret
    settings = toy_settings(tmp_path, nats_url=nats_server.url, nats_password=passwords, token_secret=secret)
    async with running(ToyService(settings, stage)) as service:
        job = await service.create(State.VALIDATING, steps=2)
        done = await service.ended(job.id)
        assert (done.state, done.failure) == (State.SUCCEEDED, None)
        assert stage.met == ["prepare", "plan"]
