"""Is an engine judged by what it does: looks at its counters in, replaced or left alone out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.serving.domain.deciding import Limits, Program, Verb, decide
from services.serving.domain.entities import ReplicaState
from services.serving.domain.progress import Counters, Progress, longest_step
from tests.unit.serving.made import deployment, seen

pytestmark = pytest.mark.unit

PATIENCE = 60
LIMITS = Limits(
    start_seconds=600,
    unhealthy_seconds=PATIENCE,
    stable_seconds=60,
    backoff_min_seconds=1,
    backoff_max_seconds=60,
    acknowledge_seconds=10,
    drain_seconds=120,
)
Look = Callable[[int], Counters | None]


def busy(second: int) -> Counters:
    """A hundred streams: tokens at every look."""
    return Counters(prompt_tokens=700, generated_tokens=100 * second, running=100)


def long_call(second: int) -> Counters:
    """One call whose prompt is read for five minutes, and whose answer then takes as long: nothing but itself moves."""
    if second < 300:
        return Counters(running=1, cache_used=second // 40 / 100)
    return Counters(prompt_tokens=8000, generated_tokens=second // 50, running=1, cache_used=0.1)


def idle(second: int) -> Counters:
    return Counters(prompt_tokens=700, generated_tokens=900)


def stuck(second: int) -> Counters:
    return Counters(prompt_tokens=700, generated_tokens=900, running=2, waiting=1)


def stuck_after(moment: int) -> Look:
    return lambda second: busy(min(second, moment))


def hidden(second: int) -> None:
    """Its HTTP server is stopped too."""


def replaced_at(look: Look, answers: Callable[[int], bool]) -> tuple[int, str]:
    """When an engine that is looked at each 5 s for ten minutes is replaced, and why; 0: never."""
    progress = Progress(0)
    for second in range(5, 600, 5):
        counters = look(second)
        if counters is not None:
            progress = progress.seen(counters, second)
        if progress.questionable(second, PATIENCE) and answers(second):
            progress = progress.answered(second)
        sight = seen(ReplicaState.READY, program=Program.RUNNING, still=progress.still(second), calls=progress.calls)
        for action in decide(deployment(), [sight], True, LIMITS):
            if action.verb is Verb.FAIL:
                return second, action.cause
    return 0, ""


def always(second: int) -> bool:
    return True


def never(second: int) -> bool:
    return False


@pytest.mark.parametrize(("look", "answers"), [(busy, never), (long_call, never), (idle, always), (hidden, always)])
def test_an_engine_that_gets_on_is_left_alone(look: Look, answers: Callable[[int], bool]) -> None:
    assert replaced_at(look, answers) == (0, "")


def test_counters_that_stood_still_because_nobody_told_them_are_no_hang() -> None:
    """A call whose client left may stand in the counters until the next step."""
    assert replaced_at(stuck, always) == (0, "")


@pytest.mark.parametrize(
    ("look", "since", "words"),
    [
        (stuck, 5, "with 3 calls"),
        (stuck_after(200), 200, "with 100 calls"),
        (idle, 5, "did not write a token"),
        (hidden, 0, "did not write a token"),
    ],
)
def test_an_engine_that_does_not_get_on_is_replaced(look: Look, since: int, words: str) -> None:
    second, cause = replaced_at(look, never)
    assert since + PATIENCE < second <= since + PATIENCE + 5
    assert words in cause


def test_an_engine_is_asked_for_a_token_only_when_its_counters_stand_still() -> None:
    progress = Progress(0).seen(busy(5), 5)
    assert not progress.questionable(19, PATIENCE)
    assert progress.questionable(20, PATIENCE)
    assert not progress.seen(busy(20), 20).questionable(21, PATIENCE)
    assert progress.seen(busy(5), 20) == progress


def test_a_large_model_on_cpus_gets_as_long_as_its_longest_step_may_take() -> None:
    # 2 x 1.5e9 parameters x 2,048 tokens, at 2 x 20e9 operations a second.
    assert longest_step(1_500_000_000, 2) == pytest.approx(153.6)
    assert longest_step(135_000_000, 1) < PATIENCE

    def verbs(still: float) -> list[Verb]:
        sight = seen(ReplicaState.READY, program=Program.RUNNING, still=still, calls=1, step_seconds=153.6)
        return [one.verb for one in decide(deployment(), [sight], True, LIMITS)]

    assert verbs(153) == []
    assert verbs(154) == [Verb.FAIL, Verb.CREATE]
