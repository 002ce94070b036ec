"""Any situation: the decisions lead to the wanted number, and a name never comes to mean other weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.serving.domain.deciding import Limits, Program, Seen, Verb, decide
from services.serving.domain.entities import ReplicaState
from services.serving.domain.planning import adapter_of
from tests.unit.serving.made import ADAPTER, TUNED, deployment, seen

pytestmark = pytest.mark.unit

LIMITS = Limits(
    start_seconds=100,
    unhealthy_seconds=60,
    stable_seconds=60,
    backoff_min_seconds=1,
    backoff_max_seconds=8,
    acknowledge_seconds=10,
    drain_seconds=30,
)
LIVING = [ReplicaState.PENDING, ReplicaState.STARTING, ReplicaState.READY, ReplicaState.DRAINING]
SITUATIONS = st.builds(
    seen,
    state=st.sampled_from(LIVING),
    number=st.integers(1, 59),
    restarts=st.integers(0, 9),
    program=st.sampled_from(Program),
    seconds=st.floats(0, 200),
    probed=st.booleans(),
    still=st.floats(0, 200),
    acknowledged=st.booleans(),
    problem=st.sampled_from(["", "It is wrong."]),
)


@given(st.lists(SITUATIONS, max_size=6, unique_by=lambda one: one.replica.id), st.integers(0, 5), st.booleans())
def test_any_situation_leads_to_the_wanted_number(found: list[Seen], wanted: int, weights: bool) -> None:
    actions = decide(deployment(replicas=wanted), found, weights, LIMITS)
    active = {one.replica.id for one in found if one.replica.state.active}
    left = [action.replica_id for action in actions if action.verb in (Verb.FAIL, Verb.DRAIN, Verb.END)]
    made = sum(action.verb is Verb.CREATE for action in actions)
    assert len(active - set(left)) + made <= max(wanted, len(active))
    if len(active) <= wanted:
        assert len(active - set(left)) + made == wanted
    assert len(active - set(left)) >= min(wanted, len(active)) - sum(a.verb is Verb.FAIL for a in actions)
    acted = [action.replica_id for action in actions if action.replica_id]
    assert len(acted) == len(set(acted)), "one step at a time"
    causes = [action.cause for action in actions if action.cause]
    assert all(cause[0].isupper() and cause.endswith(".") for cause in causes), "people read them: whole sentences"


def test_a_name_is_never_used_again_for_other_weights() -> None:
    host = deployment()
    first = adapter_of(host, ADAPTER, {}, 64, 8)
    host = host.with_adapter(first, "attached")
    newer = replace(ADAPTER, own=replace(TUNED, version_id="mv-newer", digest="sha256:bbbbbbbbbbbbbbbb"))
    second = adapter_of(host, newer, {}, 64, 8)
    assert first.fine_tuned_name == second.fine_tuned_name == first.engine_name
    assert second.engine_name == f"{first.fine_tuned_name}#bbbbbbbbbbbb"
    assert [one.model_version_id for one in host.with_adapter(second, "newer").adapters] == ["mv-newer"]
