"""Seconds until an idle stack is ready, and the memory that it then holds, at default settings."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tests.bench.processes import processes, supervisor, tree_cpu_seconds
from tests.stack import Stack

TURNS = 2


def run() -> dict[str, float]:
    """The better of the turns: whatever else runs on the machine only adds."""
    turns = [_measure() for _ in range(TURNS)]
    return {figure: min(turn[figure] for turn in turns) for figure in turns[0]}


def _measure() -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="modelry-bench-") as folder:
        stack = Stack(Path(folder))
        try:
            began = time.monotonic()
            stack.up()
            return {
                "idle stack ready, seconds": time.monotonic() - began,
                "idle stack resident, MB": sum(process.memory_info().rss for process in processes(stack)) / 1e6,
                "start of the stack, CPU seconds": tree_cpu_seconds(supervisor(stack)),
            }
        finally:
            stack.down()
