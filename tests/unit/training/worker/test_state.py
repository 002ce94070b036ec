"""A checkpoint's state is whole, and another job's is not taken."""

import random
from pathlib import Path

import numpy
import pytest
import torch

from services.training.worker import state

pytestmark = pytest.mark.unit


def _draw() -> tuple[float, float, float]:
    return random.random(), float(numpy.random.rand()), float(torch.rand(()))


def test_all_random_numbers_go_on_where_they_were(tmp_path: Path):
    state.seed_all(5, 0)
    _draw()
    state.write_state(tmp_path, {"a": torch.ones(2)}, state.Position("digest", step=3), [state.random_state()], {})
    expected = [_draw() for _ in range(3)]
    saved = state.read_state(tmp_path, "digest")
    state.set_random_state(saved.random_states[0])
    assert [_draw() for _ in range(3)] == expected
    assert saved.position.step == 3
    assert torch.equal(saved.tensors["a"], torch.ones(2))


def test_ranks_draw_different_numbers():
    drawn = []
    for rank in (0, 1):
        state.seed_all(5, rank)
        drawn.append(_draw())
    assert all(one != other for one, other in zip(*drawn, strict=True))


def test_a_state_of_other_settings_is_refused(tmp_path: Path):
    state.write_state(tmp_path, {"a": torch.ones(2)}, state.Position("digest"), [state.random_state()], {})
    with pytest.raises(state.ResumeRefused, match="other data"):
        state.read_state(tmp_path, "another")
