"""Estimates, with numbers worked out by hand."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.training.domain import DatasetUse, Hyperparameters, Job
from services.training.estimate import START_MINUTES, MeasuredSpeed, estimate

pytestmark = pytest.mark.unit
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_job(rows: int, tokens: int, **hyperparameters: object) -> Job:
    return Job(
        id="ftjob-1",
        project="proj-1",
        create_time=NOW,
        update_time=NOW,
        model="m",
        parameter_count=135_000_000,
        datasets=(DatasetUse(ref="d", row_count=rows, token_count=tokens),),
        hyperparameters=replace(Hyperparameters(learning_rate=1e-3), **hyperparameters),  # type: ignore[arg-type]
    )


def test_steps_and_minutes() -> None:
    # 144 rows in batches of 8 are 18 steps an epoch; 8 epochs are 144. 144 x 50 tokens x 8 at 480/s are 2 minutes.
    expected = estimate(a_job(144, 7200, epochs=8.0), MeasuredSpeed(480))
    assert (expected.steps, expected.tokens) == (144, 57_600)
    assert expected.minutes_low == pytest.approx(START_MINUTES + 2 / 1.6, abs=0.01)
    assert expected.minutes_high == pytest.approx(2 * START_MINUTES + 2 / 0.5, abs=0.01)
    assert not any("Warning" in note for note in expected.notes)


def test_few_steps_are_warned_of() -> None:
    assert any("99 steps are few" in note for note in estimate(a_job(264, 1000, epochs=3.0), MeasuredSpeed()).notes)
    assert not any("Warning" in note for note in estimate(a_job(800, 1000, epochs=1.0), MeasuredSpeed()).notes)


def test_a_larger_model_takes_longer() -> None:
    small = a_job(1000, 100_000)
    large = replace(small, parameter_count=1_350_000_000)
    ratio = (estimate(large, MeasuredSpeed()).minutes_low - START_MINUTES) / (
        estimate(small, MeasuredSpeed()).minutes_low - START_MINUTES
    )
    assert ratio == pytest.approx(10, rel=0.01)


def test_samples_weights_splits_and_the_cut_off_count() -> None:
    base = a_job(1000, 1_000_000, epochs=1.0, batch_size=1, cutoff_length=100)
    assert estimate(base, MeasuredSpeed()).tokens == 100_000
    fewer = replace(base, datasets=(replace(base.datasets[0], max_samples=100, weight=2.0),), validation_ratio=0.5)
    assert estimate(fewer, MeasuredSpeed()).steps == 100
