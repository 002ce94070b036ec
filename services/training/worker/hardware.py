"""Finds this machine's accelerator and prepares the process for it."""

import os

from services.chassis.engines import ACCELERATORS, Accelerator, thread_count


def find_accelerator() -> Accelerator:
    """Return the column of this machine."""
    import torch

    return ACCELERATORS["cuda" if torch.cuda.is_available() else "cpu"]


def prepare(accelerator: Accelerator, cpus: str) -> None:
    """Set the environment and the threads of this process."""
    import torch

    os.environ.update(accelerator.environment)
    count = thread_count(os.environ, cpus)
    if count:
        torch.set_num_threads(count)
