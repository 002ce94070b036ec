"""The learning rate over the steps, against sums done by hand."""

import pytest

from services.training.worker.schedule import factor

pytestmark = pytest.mark.unit


def test_the_rate_rises_in_equal_parts():
    assert [factor(step, 20, 0.2, "COSINE") for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


def test_a_cosine_is_half_at_half_way_and_a_line_too():
    assert factor(5, 10, 0, "COSINE") == pytest.approx(0.5)
    assert factor(5, 10, 0, "LINEAR") == pytest.approx(0.5)
    # warm-up of 10 of 110 steps, then 25 of 100: (1 + cos 45 degrees) / 2
    assert factor(35, 110, 10 / 110, "COSINE") == pytest.approx((1 + 2**-0.5) / 2)


@pytest.mark.parametrize("shape", ["COSINE", "LINEAR", "CONSTANT"])
def test_every_step_learns_something(shape):
    rates = [factor(step, 40, 0.05, shape) for step in range(40)]
    assert all(0 < rate <= 1 for rate in rates)
    assert max(rates) == 1


def test_an_unknown_shape_is_refused():
    with pytest.raises(ValueError, match="SAW"):
        factor(1, 2, 0, "SAW")
