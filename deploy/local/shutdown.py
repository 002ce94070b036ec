"""Ends processes of a home that nobody watches: what a dead supervisor left, and workers and replicas on `down`."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from deploy.local.files import LOOPBACK, is_port_free
from deploy.local.stack import MARKER
from services.chassis.launch import shim

WORKER_GRACE_SECONDS = 20.0
CONTROL_GRACE_SECONDS = 10.0
RELEASE_SECONDS = 3.0


def kill_group(pid: int) -> None:
    """Kill what is left of the session that a process of ours, now dead, led. Workers have sessions of their own."""
    for stat in shim.processes().values():
        if stat.session == pid and stat.pid != pid:
            shim.kill_process(stat)


def find_left_processes(home: Path, noted: list[dict[str, Any]]) -> list[shim.ProcessStat]:
    """Living processes of the control plane of a home: those that were noted, and those that carry its mark.

    The mark finds one that was started just before its supervisor died; workers and replicas do not have it.
    """
    wanted = {int(identity["pid"]) for identity in noted if shim.is_alive(identity)}
    prefix = f"{MARKER}={home}:".encode()
    table = shim.processes()
    for pid in table:
        with contextlib.suppress(OSError):
            if pid != os.getpid() and any(
                line.startswith(prefix) for line in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            ):
                wanted.add(pid)
    return [table[pid] for pid in wanted if pid in table]


async def end_left_processes(home: Path, noted: list[dict[str, Any]]) -> int:
    """End them: asked first, then killed. Returns how many there were."""
    left = find_left_processes(home, noted)
    deadline = time.monotonic() + CONTROL_GRACE_SECONDS
    number = signal.SIGTERM
    alive = left
    while alive:
        for stat in alive:
            shim.kill_process(stat, number)
        number = signal.SIGKILL
        while alive and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            alive = [stat for stat in alive if lives(stat)]
        deadline = time.monotonic() + 1
        alive = [stat for stat in find_left_processes(home, noted) if lives(stat)]
    return len(left)


async def wait_released(ports: Collection[int], host: str) -> None:
    """Wait a moment for ports whose processes have just ended.

    A killed process counts as dead as soon as its first thread is, but its sockets stay until the last one is.
    A port that another program has taken meanwhile is left to the caller.
    """
    deadline = time.monotonic() + RELEASE_SECONDS
    while time.monotonic() < deadline and not all(
        is_port_free(port, place) for port in ports for place in (LOOPBACK, host)
    ):
        await asyncio.sleep(0.02)


def lives(stat: shim.ProcessStat) -> bool:
    """Return whether this very process still runs."""
    now = shim.read_stat(stat.pid)
    return now is not None and now.start == stat.start and not now.dead


async def end_launched(home: Path, grace_seconds: float = WORKER_GRACE_SECONDS) -> int:
    """End workers and replicas of a home: they may finish a checkpoint, then they are killed. Returns how many.

    Nothing is written about their jobs: a service that starts later finds them gone and goes on from the checkpoint.
    """
    if not (home / "work").is_dir():
        return 0
    from services.chassis.launch import LocalLauncher  # here: most commands do not need it

    launcher = LocalLauncher(home)
    running = [probe.id for probe in await launcher.list() if probe.held]
    for id in running:
        await launcher.signal(id, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while time.monotonic() < deadline and any(probe.held for probe in await launcher.list()):
        await asyncio.sleep(0.1)
    await asyncio.gather(*(launcher.kill(id) for id in running))
    return len(running)
