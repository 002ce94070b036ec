"""Rows come in a seeded order that every process computes alike."""

import pytest

from services.training.worker.order import Order, deal, sample, split

pytestmark = pytest.mark.unit


def test_the_same_seed_gives_the_same_order_and_another_seed_another():
    order = Order([1.0] * 50, 4, 2, seed=7)
    assert order.batches(1) == Order([1.0] * 50, 4, 2, seed=7).batches(1)
    assert order.epoch(0) != order.epoch(1)
    assert order.epoch(0) != Order([1.0] * 50, 4, 2, seed=8).epoch(0)


def test_an_epoch_without_weights_has_every_row_once():
    order = Order([1.0] * 11, 4, 3, seed=0)
    assert sorted(order.epoch(2)) == list(range(11))
    assert [len(batch) for batch in order.batches(0)] == [4, 4, 3]
    assert order.steps_per_epoch == 3
    assert order.total_steps == 9


def test_weights_repeat_rows_and_take_a_part_of_them():
    order = Order([1.0] * 4 + [2.5] * 4 + [0.5] * 4, 4, 1, seed=3)
    rows = order.epoch(0)
    assert len(rows) == order.rows_per_epoch == 4 + 10 + 2
    counts = [rows.count(row) for row in range(12)]
    assert counts[:4] == [1] * 4
    assert sorted(counts[4:8]) == [2, 2, 3, 3]
    assert sorted(counts[8:]) == [0, 0, 1, 1]


def test_part_of_an_epoch_has_its_part_of_the_steps():
    assert Order([1.0] * 40, 4, 0.5, seed=0).total_steps == 5
    assert Order([1.0] * 2, 4, 0.1, seed=0).total_steps == 1


def test_a_sample_is_within_its_limit_and_seeded():
    assert sample(100, 10, 1, "a") == sample(100, 10, 1, "a")
    assert len(set(sample(100, 10, 1, "a"))) == 10
    assert sample(100, 10, 1, "a") != sample(100, 10, 1, "b")
    assert sorted(sample(5, 0, 1, "a")) == list(range(5))


@pytest.mark.parametrize(
    ("count", "ratio", "held"), [(100, 0.1, 10), (3, 0.01, 1), (2, 0.5, 1), (1, 0.5, 0), (9, 0, 0)]
)
def test_a_split_divides_all_rows(count, ratio, held):
    train, validation = split(count, ratio, seed=5)
    assert len(validation) == held
    assert sorted(train + validation) == list(range(count))


def test_ranks_share_a_step_as_evenly_as_they_can():
    assert deal(range(8), 2, 2) == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
    assert deal(range(5), 2, 2) == [[[0, 1], [2, 3]], [[], [4]]]
    assert deal(range(3), 8, 1) == [[[0, 1, 2]]]
