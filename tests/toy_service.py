"""The service of toys as a process of its own, for tests that kill it: `python -m tests.toy_service CONFIG`.

CONFIG is a JSON file: settings, and `die`: `spawn` ends the process as `kill -9` does right after a worker was spawned,
before that is committed. Without it the service runs until it is killed. With `create` it makes one job of that work.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from services.chassis.jobs import JobSettings
from services.chassis.launch import Capacity, Handle, LaunchSpec, LocalLauncher
from tests.toy_jobs import ToyService


class DyingLauncher(LocalLauncher):
    """A launcher whose process dies right after a spawn."""

    async def start(self, spec: LaunchSpec) -> Handle:
        """Starts, and is no more."""
        await super().start(spec)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


async def main() -> None:
    """Runs the service."""
    config = json.loads(Path(sys.argv[1]).read_text())
    service = ToyService(JobSettings(**config["settings"]))
    if config.get("die") == "spawn":
        service.launcher = DyingLauncher(service.settings.home, Capacity(cores=(0, 1), slots=2, memory_mb=4096))
    await service.start()
    if config.get("create"):
        print((await service.create(**config["create"])).id, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
