"""What gateways are told: who answers, under which names."""

from __future__ import annotations

import pytest

from gateway.routes import Route
from services.serving.domain import Mode, ReplicaState, State, route_of, with_secrets
from tests.unit.serving.made import ADAPTER, adapter, deployment, replica

pytestmark = pytest.mark.unit


def test_only_ready_replicas_are_in_the_route_and_the_gateway_reads_it() -> None:
    replicas = [replica(state, number) for number, state in enumerate(ReplicaState)]
    record = with_secrets(route_of(deployment(), replicas), 7, lambda replica_id: f"secret of {replica_id}")
    route = Route.parse(record)
    assert [(one.id, one.address, one.secret) for one in route.replicas] == [
        ("rep-2", "127.0.0.1:15002", "secret of rep-2")
    ]
    assert (route.version, route.name, route.engine_model, route.deleted) == (7, "help", "help", False)


def test_a_merged_version_answers_to_its_own_fine_tuned_name() -> None:
    merged = deployment(facts=ADAPTER, model_version_id="mv-tuned", effective_mode=Mode.MERGED)
    [own] = Route.parse(with_secrets(route_of(merged, []), 1, str)).adapters
    assert (own.name, own.engine_model, own.ready) == (ADAPTER.fine_tuned_name, "help", True)


def test_an_attached_version_gets_traffic_once_its_adapter_is_on_all_replicas() -> None:
    ready = [replica(ReplicaState.READY)]

    def route(on: bool) -> Route:
        own = adapter(engine_name="help", own=True, ready=on)
        attached = deployment(facts=ADAPTER, model_version_id="mv-tuned", effective_mode=Mode.ATTACHED, adapters=(own,))
        return Route.parse(with_secrets(route_of(attached, ready), 1, str))

    assert not route(False).replicas
    assert route(True).replicas and route(True).adapters[0].engine_model == "help"


def test_a_base_lists_its_adapters_with_where_they_stand() -> None:
    found = deployment(adapters=(adapter(), adapter(model_version_id="mv-2", fine_tuned_name="ft:b", ready=True)))
    route = Route.parse(with_secrets(route_of(found, [replica(ReplicaState.READY)]), 1, str))
    assert [(one.name, one.ready) for one in route.adapters] == [(adapter().fine_tuned_name, False), ("ft:b", True)]


def test_an_adapter_that_can_never_be_attached_has_no_name_to_call() -> None:
    found = deployment(adapters=(adapter(engine_name="", cause="it trains biases"),))
    assert not route_of(found, [replica(ReplicaState.READY)])["adapters"]


def test_a_deleted_deployment_is_a_route_that_is_gone() -> None:
    gone = Route.parse(with_secrets(route_of(deployment(state=State.DELETED), []), 9, str))
    assert gone.deleted and not gone.visible_to("proj-1")
