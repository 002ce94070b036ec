"""What differs between accelerators, in one table, so that no setting of one leaks into another."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.training.worker.attention import SPANS

FLASH = "flash_attention_2"


@dataclass(frozen=True)
class Hardware:
    """One column of the table. ``environment`` is set before torch and DeepSpeed look at it."""

    device: str
    backend: str
    attention: Mapping[str, str]
    compute_types: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


HARDWARE = {
    "cpu": Hardware(
        device="cpu",
        backend="gloo",
        attention={"AUTO": SPANS, "DISABLED": SPANS},
        compute_types=("BF16", "FP32"),
        environment={"DS_ACCELERATOR": "cpu"},
    ),
    # Attention over sequences of different lengths reads their bounds from positions that restart.
    "cuda": Hardware(
        device="cuda",
        backend="nccl",
        attention={"AUTO": SPANS, "DISABLED": SPANS, "FA2": FLASH},
        compute_types=("BF16", "FP16", "FP32"),
        environment={"DS_ACCELERATOR": "cuda"},
    ),
}


def hardware() -> Hardware:
    """Return the column of this machine."""
    import torch

    return HARDWARE["cuda" if torch.cuda.is_available() else "cpu"]


def threads(environment: Mapping[str, str], cpus: str = "") -> int:
    """Return how many threads a rank computes with: what the launcher says, else its share of the cores, else 0."""
    if environment.get("MODELRY_CPUS"):
        cpus = environment["MODELRY_CPUS"]
    if environment.get("OMP_NUM_THREADS", "").isdigit():
        return int(environment["OMP_NUM_THREADS"])
    count = 0
    for part in filter(None, cpus.split(",")):
        first, _, last = part.partition("-")
        count += int(last or first) - int(first) + 1
    return max(1, count // int(environment.get("WORLD_SIZE", "1"))) if count else 0


def prepare(column: Hardware, cpus: str) -> None:
    """Set the environment and the threads of this process."""
    import torch

    os.environ.update(column.environment)
    count = threads(os.environ, cpus)
    if count:
        torch.set_num_threads(count)
