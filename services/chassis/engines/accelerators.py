"""What differs between accelerators, in one table, so that no setting of one leaks into another. No torch here."""

from collections.abc import Mapping
from dataclasses import dataclass, field

SPAN_ATTENTION = "modelry_spans"
"""Our own attention over the conversations of one row, under the name by which transformers knows it."""

FLASH_ATTENTION = "flash_attention_2"


@dataclass(frozen=True)
class Accelerator:
    """One column of the table.

    Attributes:
        device: its name in torch.
        backend: how ranks talk to each other.
        attention: what a job's wish becomes.
        compute_types: the types that it computes in.
        environment: what is set before torch and DeepSpeed look at it.
    """

    device: str
    backend: str
    attention: Mapping[str, str]
    compute_types: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


ACCELERATORS = {
    "cpu": Accelerator(
        device="cpu",
        backend="gloo",
        attention={"AUTO": SPAN_ATTENTION, "DISABLED": SPAN_ATTENTION},
        compute_types=("BF16", "FP32"),
        environment={"DS_ACCELERATOR": "cpu"},
    ),
    # Attention over sequences of different lengths reads their bounds from positions that restart.
    "cuda": Accelerator(
        device="cuda",
        backend="nccl",
        attention={"AUTO": SPAN_ATTENTION, "DISABLED": SPAN_ATTENTION, "FA2": FLASH_ATTENTION},
        compute_types=("BF16", "FP16", "FP32"),
        environment={"DS_ACCELERATOR": "cuda"},
    ),
}


def core_count(cpus: str) -> int:
    """Return how many cores "0-1" or "0,2" are; 0 when nothing is said."""
    count = 0
    for part in filter(None, cpus.split(",")):
        first, _, last = part.partition("-")
        count += int(last or first) - int(first) + 1
    return count


def thread_count(environment: Mapping[str, str], cpus: str = "") -> int:
    """Return how many threads a rank computes with: what the launcher says, else its share of the cores, else 0."""
    if environment.get("OMP_NUM_THREADS", "").isdigit():
        return int(environment["OMP_NUM_THREADS"])
    count = core_count(environment.get("MODELRY_CPUS") or cpus)
    return max(1, count // int(environment.get("WORLD_SIZE", "1"))) if count else 0
