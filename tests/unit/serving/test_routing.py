"""What gateways are told: who answers, under which names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from services.clients.records import SOON_SECONDS, CallLimits, RouteRecord
from services.serving.domain.entities import Deployment, Engine, Mode, Replica, ReplicaState, State
from services.serving.operations.routes import limits_of, record_of, route_of, told_route
from services.serving.settings import ServingSettings
from tests.unit.serving.made import ADAPTER, MOMENT, adapter, deployment, replica

pytestmark = pytest.mark.unit


def read(deployment: Deployment, replicas: list[Replica], version: int = 1) -> RouteRecord:
    """The route of a deployment as a gateway reads it from the KV."""
    saved = replace(deployment, route=route_of(deployment, replicas).to_json(), route_version=version)
    told = told_route(saved)
    assert told == route_of(saved, replicas)
    record = record_of(told, lambda replica_id: f"secret of {replica_id}")
    return RouteRecord.from_json(json.loads(json.dumps(record.value)))


def test_only_ready_replicas_are_in_the_route_and_the_gateway_reads_it() -> None:
    replicas = [replica(state, number) for number, state in enumerate(ReplicaState)]
    route = read(deployment(), replicas, version=7)
    assert [(one.id, one.address, one.secret) for one in route.replicas] == [
        ("rep-2", "127.0.0.1:15002", "secret of rep-2")
    ]
    assert (route.version, route.name, route.engine_model, route.deleted) == (7, "help", "help", False)


def test_the_route_says_what_the_last_start_took_and_since_when_the_next_one_runs() -> None:
    running = replace(replica(ReplicaState.READY), ready_seconds=43.0)
    up = read(deployment(), [running])
    assert (up.start_seconds, up.starting_since) == (43.0, 0.0)
    assert up.seconds_to_start(now=MOMENT.timestamp()) == 43.0  # it died, and nobody has noticed yet
    after = deployment(route=up.to_json())
    starting = replica(ReplicaState.STARTING)
    down, since = read(after, [starting]), starting.create_time.timestamp()
    assert (down.start_seconds, down.starting_since) == (43.0, since)
    assert down.seconds_to_start(now=since + 40) == 3.0
    assert down.seconds_to_start(now=since + 60) == SOON_SECONDS
    assert read(deployment(), [replica(ReplicaState.PENDING)]).seconds_to_start(MOMENT.timestamp()) == SOON_SECONDS


def test_a_merged_version_answers_to_its_own_fine_tuned_name() -> None:
    merged = deployment(facts=ADAPTER, model_version_id="mv-tuned", effective_mode=Mode.MERGED)
    [own] = read(merged, []).adapters
    assert (own.fine_tuned_name, own.engine_model, own.ready) == (ADAPTER.fine_tuned_name, "help", True)


def test_an_attached_version_gets_traffic_once_its_adapter_is_on_all_replicas() -> None:
    ready = [replica(ReplicaState.READY)]

    def route(on: bool) -> RouteRecord:
        own = adapter(engine_name="help", own=True, ready=on)
        attached = deployment(facts=ADAPTER, model_version_id="mv-tuned", effective_mode=Mode.ATTACHED, adapters=(own,))
        return read(attached, ready)

    assert not route(False).replicas
    assert route(True).replicas and route(True).adapters[0].engine_model == "help"


def test_a_base_lists_its_adapters_with_where_they_stand() -> None:
    found = deployment(adapters=(adapter(), adapter(model_version_id="mv-2", fine_tuned_name="ft:b", ready=True)))
    route = read(found, [replica(ReplicaState.READY)])
    assert [(one.fine_tuned_name, one.ready) for one in route.adapters] == [
        (adapter().fine_tuned_name, False),
        ("ft:b", True),
    ]


def test_an_adapter_that_can_never_be_attached_has_no_name_to_call() -> None:
    found = deployment(adapters=(adapter(engine_name="", cause="it trains biases"),))
    assert not route_of(found, [replica(ReplicaState.READY)]).adapters


def test_a_deleted_deployment_is_a_route_that_is_gone() -> None:
    gone = read(deployment(state=State.DELETED), [], version=9)
    assert gone.deleted and not gone.visible_to("proj-1")


@pytest.mark.parametrize(
    ("max_sequences", "changes", "limits"),
    [
        (0, {}, CallLimits(sequences=128, choices=128, logprobs=20)),
        (1024, {"max_choices": 200}, CallLimits(sequences=512, choices=200)),
        (32, {}, CallLimits(sequences=16, choices=16)),
        (1, {"max_logprobs": 5}, CallLimits(sequences=1, choices=1, logprobs=5)),
    ],
)
def test_a_key_has_half_of_an_engine_at_most(
    tmp_path: Path, max_sequences: int, changes: dict[str, int], limits: CallLimits
) -> None:
    settings = ServingSettings(home=tmp_path).model_copy(update=changes)
    assert limits_of(Engine(max_sequences=max_sequences), settings) == limits


def test_the_limits_of_a_call_are_in_the_record_unless_they_are_the_usual_ones() -> None:
    route = route_of(deployment(), [])
    assert "limits" not in route.to_json()
    small = replace(route, limits=CallLimits(sequences=4, choices=3))
    assert RouteRecord.from_json(json.loads(json.dumps(small.to_json()))) == small


def test_a_route_that_version_0_1_saved_is_the_same_route_and_is_not_told_again() -> None:
    base = deployment(route_version=3)
    route = route_of(base, [replica(ReplicaState.READY)])
    old = {**route.to_json(), "replicas": [{"id": one.id, "address": one.address} for one in route.replicas]}
    del old["version"]
    assert told_route(replace(base, route=old)) == route
    assert told_route(base) is None
