"""Wanted against actual: what is to be done now. Pure, level-triggered: the same situation gives the same actions."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from services.chassis.transitions import Failure
from services.serving.domain.entities import (
    Deployment,
    Replica,
    ReplicaState,
    State,
)

_UNWANTED = "It is not wanted any more."


class Program(Enum):
    """What the launcher knows of a replica's program."""

    NONE = 0
    RUNNING = 1
    GONE = 2


@dataclass(frozen=True)
class Limits:
    """The settings that decisions depend on, by their names."""

    start_seconds: float
    unhealthy_seconds: float
    stable_seconds: float
    backoff_min_seconds: float
    backoff_max_seconds: float
    acknowledge_seconds: float
    drain_seconds: float

    def backoff(self, restarts: int) -> float:
        """Return how long the next start waits after so many failed ones in a row."""
        return 0.0 if restarts <= 0 else min(self.backoff_max_seconds, self.backoff_min_seconds * 2.0 ** (restarts - 1))


@dataclass(frozen=True)
class Seen:
    """A replica and what is known of it now.

    Attributes:
        program: whether its program runs.
        exit: how the program ended, in words.
        seconds: how long it has been in its state, by the clock of this process.
        probed: it has passed its probe.
        still: seconds since it last got on, once it is ready.
        calls: how many it had then.
        step_seconds: how long a step of it may take.
        acknowledged: every gateway knows that it gets no traffic any more.
        problem: why it can never become ready, in words.
    """

    replica: Replica
    program: Program = Program.NONE
    exit: str = ""
    seconds: float = 0.0
    probed: bool = False
    still: float = 0.0
    calls: int = 0
    step_seconds: float = 0.0
    acknowledged: bool = False
    problem: str = ""


class Verb(Enum):
    """What is to be done."""

    CREATE = 1
    START = 2
    READY = 3
    FAIL = 4
    DRAIN = 5
    TERMINATE = 6
    KILL = 7
    END = 8
    REMOVE = 9


@dataclass(frozen=True)
class Action:
    """One thing to do, to one replica (CREATE and REMOVE: to the deployment)."""

    verb: Verb
    replica_id: str = ""
    cause: str = ""
    restarts: int = 0


def decide(deployment: Deployment, replicas: Sequence[Seen], weights: bool, limits: Limits) -> list[Action]:
    """Return what is to be done for a deployment now. `weights`: its files are on this machine."""
    wanted = 0 if deployment.state is State.DELETING else deployment.replicas
    surplus = _surplus([one.replica for one in replicas], wanted)
    actions: list[Action] = []
    failed: list[Action] = []
    for seen in replicas:
        step = _step(seen, seen.replica.id in surplus, weights, limits)
        if step is None:
            continue
        verb, cause = step
        actions.append(Action(verb, seen.replica.id, cause))
        if verb is Verb.FAIL:
            failed.append(Action(Verb.CREATE, cause=cause, restarts=_restarts(seen, limits)))
    active = sum(seen.replica.state.active for seen in replicas) - len(failed)
    missing = max(0, wanted - active)
    fresh = [Action(Verb.CREATE, cause="One more replica is wanted.")] * missing
    actions += (failed + fresh)[:missing]
    if deployment.state is State.DELETING and not replicas:
        actions.append(Action(Verb.REMOVE))
    return actions


def _surplus(replicas: Sequence[Replica], wanted: int) -> set[str]:
    """Return the ids of those to give up: first what is not ready yet, then the newest."""
    active = [one for one in replicas if one.state.active]
    rank = {ReplicaState.READY: 0, ReplicaState.STARTING: 1, ReplicaState.PENDING: 2}
    kept = sorted(active, key=lambda one: (rank[one.state], one.create_time, one.id))[:wanted]
    return {one.id for one in active} - {one.id for one in kept}


def _restarts(seen: Seen, limits: Limits) -> int:
    """Return how many starts failed in a row, with this one; being ready for long begins a new row."""
    lasted = seen.replica.state is ReplicaState.READY and seen.seconds >= limits.stable_seconds
    return 1 if lasted else seen.replica.restart_count + 1


def _step(seen: Seen, unwanted: bool, weights: bool, limits: Limits) -> tuple[Verb, str] | None:
    """Return what is done to a replica now, with its cause."""
    match seen.replica.state:
        case ReplicaState.PENDING if unwanted:
            return Verb.END, _UNWANTED
        case ReplicaState.PENDING if weights and seen.seconds >= limits.backoff(seen.replica.restart_count):
            return Verb.START, ""
        case ReplicaState.STARTING:
            return _starting(seen, unwanted, limits)
        case ReplicaState.READY:
            return _ready(seen, unwanted, limits)
        case ReplicaState.DRAINING:
            return _draining(seen, limits)
    return None


def _starting(seen: Seen, unwanted: bool, limits: Limits) -> tuple[Verb, str] | None:
    if unwanted:
        return Verb.DRAIN, _UNWANTED
    if seen.program is not Program.RUNNING:
        return Verb.FAIL, f"It ended while it started{_so(seen.exit)}."
    if seen.problem:
        return Verb.FAIL, seen.problem
    if seen.probed:
        return Verb.READY, "It answers."
    if seen.seconds > limits.start_seconds:
        return Verb.FAIL, f"It was not ready within {limits.start_seconds:g} s."
    return None


def _ready(seen: Seen, unwanted: bool, limits: Limits) -> tuple[Verb, str] | None:
    if seen.program is not Program.RUNNING:
        return Verb.FAIL, f"It ended by itself{_so(seen.exit)}."
    if unwanted:
        return Verb.DRAIN, _UNWANTED
    patience = max(limits.unhealthy_seconds, seen.step_seconds)
    if seen.still > patience:
        return Verb.FAIL, f"It {_stuck(seen.calls)} for {patience:.0f} s."
    return None


def _draining(seen: Seen, limits: Limits) -> tuple[Verb, str] | None:
    if seen.program is not Program.RUNNING:
        return Verb.END, "It has drained."
    if seen.seconds > limits.acknowledge_seconds + limits.drain_seconds:
        return Verb.KILL, ""
    if seen.acknowledged or seen.seconds > limits.acknowledge_seconds:
        return Verb.TERMINATE, ""
    return None


def _stuck(calls: int) -> str:
    return f"stood still with {calls} calls" if calls else "did not write a token"


def _so(words: str) -> str:
    return f" ({words})" if words else ""


def deployment_state(
    deployment: Deployment, replicas: Sequence[Replica], failing_restarts: int, trouble: Failure | None
) -> tuple[State, Failure | None]:
    """Return where a deployment stands, from its replicas. `trouble`: its files cannot be had."""
    if deployment.state.going:
        return deployment.state, deployment.failure
    ready = sum(one.state is ReplicaState.READY for one in replicas)
    if deployment.replicas == 0:
        return State.IDLE, None
    if ready >= deployment.replicas:
        return State.READY, None
    coming = [one for one in replicas if one.state in (ReplicaState.PENDING, ReplicaState.STARTING)]
    worst = max((one.restart_count for one in coming), default=0)
    failure = trouble
    if failure is None and worst >= failing_restarts:
        last = next((one.cause for one in coming if one.restart_count == worst), "")
        failure = deployment.failure or Failure("REPLICAS_FAIL", f"The last starts failed ({worst} in a row): {last}")
    if ready:
        return State.DEGRADED, failure
    return (State.FAILING, failure) if failure else (State.STARTING, None)
