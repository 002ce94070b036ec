"""Wanted against actual: what is done, in which order, and where a deployment stands."""

from __future__ import annotations

import pytest

from services.chassis.errors import WrongState
from services.chassis.transitions import Failure, FailureKind
from services.serving.domain.deciding import Action, Limits, Program, Seen, Verb, decide, deployment_state
from services.serving.domain.entities import REPLICA_SOURCES, Deployment, ReplicaState, State
from tests.unit.serving.made import MOMENT, deployment, replica, seen

pytestmark = pytest.mark.unit

PENDING, STARTING, READY = ReplicaState.PENDING, ReplicaState.STARTING, ReplicaState.READY
DRAINING, ENDED, FAILED = ReplicaState.DRAINING, ReplicaState.ENDED, ReplicaState.FAILED
RUNNING, GONE = Program.RUNNING, Program.GONE
LIMITS = Limits(
    start_seconds=600,
    unhealthy_seconds=60,
    stable_seconds=60,
    backoff_min_seconds=1,
    backoff_max_seconds=60,
    acknowledge_seconds=10,
    drain_seconds=120,
)


def verbs(found: Deployment, replicas: list[Seen], weights: bool = True) -> list[tuple[Verb, str]]:
    return [(action.verb, action.replica_id) for action in decide(found, replicas, weights, LIMITS)]


def test_missing_replicas_are_made_and_a_satisfied_deployment_is_left_alone() -> None:
    assert verbs(deployment(replicas=2), []) == [(Verb.CREATE, ""), (Verb.CREATE, "")]
    assert verbs(deployment(), [seen(READY, program=RUNNING)]) == []
    assert verbs(deployment(replicas=0), []) == []


def test_the_same_situation_gives_the_same_actions() -> None:
    situation = [seen(READY, 1, program=GONE, seconds=5), seen(STARTING, 2, program=RUNNING, probed=True)]
    first = decide(deployment(replicas=2), situation, True, LIMITS)
    assert first == decide(deployment(replicas=2), situation, True, LIMITS)


def test_a_replica_starts_once_its_files_are_here() -> None:
    assert verbs(deployment(), [seen(PENDING)], weights=False) == []
    assert verbs(deployment(), [seen(PENDING)]) == [(Verb.START, "rep-1")]


@pytest.mark.parametrize(("restarts", "seconds"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (40, 60)])
def test_a_restart_waits_twice_as_long_each_time_up_to_a_minute(restarts: int, seconds: float) -> None:
    assert LIMITS.backoff(restarts) == seconds
    assert verbs(deployment(), [seen(PENDING, restarts=restarts, seconds=seconds - 0.1)]) == []
    assert verbs(deployment(), [seen(PENDING, restarts=restarts, seconds=seconds)]) == [(Verb.START, "rep-1")]


def test_only_a_probe_that_passed_makes_ready() -> None:
    assert verbs(deployment(), [seen(STARTING, program=RUNNING)]) == []
    assert verbs(deployment(), [seen(STARTING, program=RUNNING, probed=True)]) == [(Verb.READY, "rep-1")]


@pytest.mark.parametrize(
    "sight",
    [
        {"program": GONE, "exit": "exit code 1"},
        {"program": RUNNING, "problem": "Its tokens are others."},
        {"program": RUNNING, "seconds": 601.0},
    ],
)
def test_a_start_that_cannot_succeed_fails_and_is_tried_again(sight: dict[str, object]) -> None:
    fail, create = decide(deployment(), [seen(STARTING, restarts=1, **sight)], True, LIMITS)
    assert (fail.verb, fail.replica_id) == (Verb.FAIL, "rep-1")
    assert (create.verb, create.restarts) == (Verb.CREATE, 2)


def test_a_replica_that_ended_by_itself_is_replaced_and_the_row_of_failures_goes_on() -> None:
    soon = decide(deployment(), [seen(READY, restarts=2, program=GONE, seconds=5)], True, LIMITS)
    assert [one.verb for one in soon] == [Verb.FAIL, Verb.CREATE] and soon[1].restarts == 3
    late = decide(deployment(), [seen(READY, restarts=2, program=GONE, seconds=61)], True, LIMITS)
    assert late[1].restarts == 1, "it was stable: a new row begins"


def test_a_ready_replica_that_stands_still_for_long_is_replaced() -> None:
    assert verbs(deployment(), [seen(READY, program=RUNNING, still=59)]) == []
    found = verbs(deployment(), [seen(READY, program=RUNNING, still=61)])
    assert found == [(Verb.FAIL, "rep-1"), (Verb.CREATE, "")]


def test_surplus_gives_up_what_is_not_ready_first_and_then_the_newest() -> None:
    replicas = [
        seen(READY, 1, program=RUNNING),
        seen(READY, 2, program=RUNNING),
        seen(STARTING, 3, program=RUNNING),
        seen(PENDING, 4),
    ]
    assert verbs(deployment(replicas=2), replicas) == [(Verb.DRAIN, "rep-3"), (Verb.END, "rep-4")]
    assert (Verb.DRAIN, "rep-2") in verbs(deployment(replicas=1), replicas)
    assert (Verb.DRAIN, "rep-1") not in verbs(deployment(replicas=1), replicas)


def test_a_draining_replica_ends_only_when_every_gateway_knows_or_was_waited_for() -> None:
    idle = deployment(replicas=0)
    assert verbs(idle, [seen(DRAINING, program=RUNNING, seconds=1)]) == []
    assert verbs(idle, [seen(DRAINING, program=RUNNING, seconds=1, acknowledged=True)]) == [(Verb.TERMINATE, "rep-1")]
    assert verbs(idle, [seen(DRAINING, program=RUNNING, seconds=11)]) == [(Verb.TERMINATE, "rep-1")]
    assert verbs(idle, [seen(DRAINING, program=RUNNING, seconds=131)]) == [(Verb.KILL, "rep-1")]
    assert verbs(idle, [seen(DRAINING, program=GONE)]) == [(Verb.END, "rep-1")]


def test_a_deployment_is_removed_only_when_nothing_is_left_of_it() -> None:
    going = deployment(state=State.DELETING, replicas=2)
    assert verbs(going, [seen(READY, program=RUNNING)]) == [(Verb.DRAIN, "rep-1")]
    assert verbs(going, [seen(DRAINING, program=RUNNING)]) == []
    assert decide(going, [], True, LIMITS) == [Action(Verb.REMOVE)]


def test_it_stands_as_its_replicas_make_it() -> None:
    def state(wanted: int, *states: ReplicaState) -> State:
        replicas = [replica(one, number) for number, one in enumerate(states)]
        return deployment_state(deployment(replicas=wanted), replicas, 3, None)[0]

    assert state(2) is State.STARTING
    assert state(2, STARTING, PENDING) is State.STARTING
    assert state(2, READY, STARTING) is State.DEGRADED
    assert state(2, READY, READY) is State.READY
    assert state(1, READY, DRAINING) is State.READY
    assert state(0, DRAINING) is State.IDLE


def test_three_failed_starts_in_a_row_are_failing_and_it_goes_on_trying() -> None:
    assert deployment_state(deployment(), [replica(PENDING, restart_count=2)], 3, None) == (State.STARTING, None)
    state, failure = deployment_state(deployment(), [replica(PENDING, restart_count=3, cause="no memory")], 3, None)
    assert state is State.FAILING and failure is not None and "no memory" in failure.message
    assert verbs(deployment(state=State.FAILING), [seen(PENDING, restarts=3, seconds=4)]) == [(Verb.START, "rep-1")]
    # A replica that answers ends it.
    assert deployment_state(deployment(failure=failure), [replica(READY, restart_count=3)], 3, None) == (
        State.READY,
        None,
    )


def test_files_that_cannot_be_had_are_named() -> None:
    trouble = Failure("MODEL_FAILED", "the model cannot be used", FailureKind.USER)
    assert deployment_state(deployment(), [replica(PENDING)], 3, trouble) == (State.FAILING, trouble)


@pytest.mark.parametrize("target", list(ReplicaState))
@pytest.mark.parametrize("source", list(ReplicaState))
def test_every_state_with_every_target(source: ReplicaState, target: ReplicaState) -> None:
    before = replica(source)
    if source in REPLICA_SOURCES.get(target, frozenset()):
        after = before.apply(target, MOMENT, "a test")
        assert (after.state, after.version, after.cause) == (target, before.version + 1, "a test")
    else:
        with pytest.raises(WrongState):
            before.apply(target, MOMENT, "a test")
    assert not (source.ended and source in REPLICA_SOURCES.get(target, frozenset())), "ended is the end"
