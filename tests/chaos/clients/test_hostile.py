"""Hostile, slow and broken clients, all at once, while an ordinary client works: it notices nothing but the time."""

from __future__ import annotations

import json

import pytest

from tests.chaos.clients.attacks import ATTACKS
from tests.chaos.clients.siege import besiege
from tests.stack import Journey, Stack

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(280)]

SECONDS, ALONE_SECONDS = 15.0, 2.0


async def test_an_ordinary_client_is_served_while_hostile_ones_do_everything_at_once(
    stack: Stack, journey: Journey
) -> None:
    deployment, gateway = journey.resources["deployment"], stack.state["processes"]["gateway"]["identity"]
    replicas = [one.id for one in stack.client.list_replicas(deployment=deployment.id).replicas]
    report = await besiege(stack, deployment, SECONDS, ALONE_SECONDS)
    print(json.dumps(report.figures(), indent=2))
    assert report.broken == []
    assert min(len(report.besieged.seconds[kind]) for kind in ("health", "models", "deployment", "chat")) > 2
    assert [set(attacks) for attacks in report.outcomes.values()] == [set(ATTACKS)] * 2, "an attack did nothing"
    assert stack.state["processes"]["gateway"]["identity"] == gateway
    assert [one.id for one in stack.client.list_replicas(deployment=deployment.id).replicas] == replicas
