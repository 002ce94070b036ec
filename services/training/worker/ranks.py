"""The processes that train together. One process alone talks to nobody."""

import os
import signal
import threading
from typing import Any, TypeVar

import torch

T = TypeVar("T")


class Ranks:
    """This process among its equals; started by ``torch.distributed.run``, which sets RANK and WORLD_SIZE."""

    def __init__(self, backend: str, device: torch.device) -> None:
        """Join the others; returns when all are there."""
        self.rank = int(os.environ.get("RANK", "0"))
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self._device = device
        if self.size > 1:
            import deepspeed

            deepspeed.init_distributed(dist_backend=backend, verbose=False)

    @property
    def leads(self) -> bool:
        """Whether this process reports and writes."""
        return self.rank == 0

    def total(self, *values: float) -> list[float]:
        """Return each value summed over the ranks, the same everywhere."""
        if self.size == 1:
            return [float(value) for value in values]
        tensor = torch.tensor(values, dtype=torch.float64, device=self._device)
        torch.distributed.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks, by rank."""
        if self.size == 1:
            return [value]
        result: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(result, value)
        return result

    def close(self) -> None:
        """Leave the others."""
        if self.size > 1:
            torch.distributed.destroy_process_group()


def stop_signal() -> threading.Event:
    """Return an event that a SIGTERM sets, for the ranks without a reporter."""
    event = threading.Event()

    def asked(_number: int, _frame: object) -> None:
        threading.Thread(target=event.set, daemon=True).start()  # the interrupted code may just hold its lock

    signal.signal(signal.SIGTERM, asked)
    return event
