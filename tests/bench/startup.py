"""Seconds until an idle stack is ready, and the memory that it then holds, at default settings."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tests.bench.processes import processes
from tests.stack import Stack


def run() -> dict[str, float]:
    """Seconds and megabytes of a stack in an empty home."""
    with tempfile.TemporaryDirectory(prefix="modelry-bench-") as folder:
        stack = Stack(Path(folder))
        try:
            began = time.monotonic()
            stack.up()
            return {
                "idle stack ready, seconds": time.monotonic() - began,
                "idle stack resident, MB": sum(process.memory_info().rss for process in processes(stack)) / 1e6,
            }
        finally:
            stack.down()
