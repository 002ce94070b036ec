"""No setting of one accelerator leaks into another."""

import pytest

from services.chassis.engines import ACCELERATORS, SPAN_ATTENTION, thread_count
from services.training.worker import hardware

pytestmark = pytest.mark.unit


def test_a_machine_with_a_gpu_gets_its_own_column(monkeypatch: pytest.MonkeyPatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    column = hardware.find_accelerator()
    assert (column.device, column.backend, column.environment) == ("cuda", "nccl", {"DS_ACCELERATOR": "cuda"})
    assert column.attention["FA2"] == "flash_attention_2"
    assert "FP16" in column.compute_types
    assert "gloo" not in str(column) and "cpu" not in str(column)


def test_a_machine_without_one_has_nothing_that_needs_it(monkeypatch: pytest.MonkeyPatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    column = hardware.find_accelerator()
    assert column is ACCELERATORS["cpu"]
    assert column.attention == {"AUTO": SPAN_ATTENTION, "DISABLED": SPAN_ATTENTION}
    assert "FP16" not in column.compute_types


@pytest.mark.parametrize(
    ("environment", "cpus", "expected"),
    [
        ({"OMP_NUM_THREADS": "3", "MODELRY_CPUS": "0-1"}, "", 3),
        ({"MODELRY_CPUS": "0-3,6"}, "0", 5),
        ({"WORLD_SIZE": "2"}, "0-3", 2),
        ({"WORLD_SIZE": "4"}, "0-1", 1),
        ({}, "", 0),
    ],
)
def test_threads_are_what_the_launcher_gave(environment: dict[str, str], cpus: str, expected: int):
    assert thread_count(environment, cpus) == expected
