"""Intervals and paired tests against worked values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.evaluation.scoring import intervals, texts
from services.evaluation.scoring.stopwords import NO_STOPWORDS

pytestmark = pytest.mark.unit


def test_wilson_interval_of_a_worked_share() -> None:
    # Newcombe 1998, table I: 81 of 263 -> 0.2553 to 0.3662; 0 of 20 -> 0 to 0.1611.
    found = intervals.share_interval(81, 263)
    assert (found.low, found.high) == (pytest.approx(0.2553, abs=5e-5), pytest.approx(0.3662, abs=5e-5))
    assert intervals.share_interval(0, 20).high == pytest.approx(0.1611, abs=5e-5)


def test_mcnemar_is_a_coin_toss() -> None:
    assert intervals.mcnemar_p(0, 0) == 1
    assert intervals.mcnemar_p(1, 9) == pytest.approx(2 * (1 + 10) / 1024)
    assert intervals.mcnemar_p(9, 1) == intervals.mcnemar_p(1, 9)
    assert intervals.mcnemar_p(5, 5) == 1


def test_equal_systems_differ_by_nothing() -> None:
    right = [True, False, True, True]
    found = intervals.paired_shares(right, right)
    assert (found.value, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    assert found.words == "no significant difference"


def test_a_clear_gain_is_called_better_and_a_clear_loss_worse() -> None:
    baseline, candidate = [False] * 40, [True] * 30 + [False] * 10
    assert intervals.paired_shares(baseline, candidate).words == "better"
    assert intervals.paired_shares(candidate, baseline).words == "worse"


def test_bootstrap_of_a_mean_has_the_width_of_its_standard_error() -> None:
    rows = [(float(index % 2),) for index in range(400)]
    found = intervals.bootstrap(rows, {"mean": intervals.mean_of(0, 400)})["mean"]
    error = 0.5 / 400**0.5
    assert found.low == pytest.approx(0.5 - 1.96 * error, abs=0.4 * error)
    assert found.high == pytest.approx(0.5 + 1.96 * error, abs=0.4 * error)


def test_the_same_samples_give_the_same_interval() -> None:
    rows = [(index / 10,) for index in range(10)]
    statistics = {"mean": intervals.mean_of(0, 10)}
    assert intervals.bootstrap(rows, statistics) == intervals.bootstrap(rows, statistics)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=20))
def test_exchanging_the_systems_turns_the_difference_round(pairs: list[tuple[float, float]]) -> None:
    first, second = [(a,) for a, _ in pairs], [(b,) for _, b in pairs]
    statistics = {"mean": intervals.mean_of(0, len(pairs))}
    there = intervals.paired_bootstrap(first, second, statistics)["mean"]
    back = intervals.paired_bootstrap(second, first, statistics)["mean"]
    assert there.value == pytest.approx(-back.value)
    assert there.p_value == pytest.approx(back.p_value, abs=0.01)
    assert 0 < there.p_value <= 1


def test_different_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="same samples"):
        intervals.paired_bootstrap([(1.0,)], [], {})
    with pytest.raises(ValueError, match="at least one sample"):
        intervals.bootstrap([], {})
    with pytest.raises(ValueError, match="same samples"):
        intervals.paired_shares([], [])


def test_comparing_texts_finds_the_better_system() -> None:
    references = [f"the answer number {index} is blue like the sky" for index in range(30)]
    good = [texts.score_text(reference, [reference], NO_STOPWORDS) for reference in references]
    bad = [texts.score_text("I do not know the answer", [reference], NO_STOPWORDS) for reference in references]
    found = texts.compare(bad, good)
    assert set(found) == set(texts.METRICS)
    assert {difference.words for difference in found.values()} == {"better"}
    assert texts.compare(good, good)["rouge_l_f"].words == "no significant difference"
