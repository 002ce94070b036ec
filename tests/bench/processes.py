"""The processes of a running stack, and the CPU that they and the whole machine have used."""

from __future__ import annotations

from contextlib import suppress

import psutil

from tests.stack import Stack


def processes(stack: Stack) -> list[psutil.Process]:
    """The processes of the control plane, the supervisor included."""
    root = supervisor(stack)
    return [root, *root.children(recursive=True)]


def supervisor(stack: Stack) -> psutil.Process:
    """The process that started all others."""
    return psutil.Process(int(stack.state["supervisor"]["pid"]))


def find_process(stack: Stack, module: str) -> psutil.Process:
    """The process that runs a module (`gateway`, `services.registry`). Raises: StopIteration: there is none."""
    return next(process for process in processes(stack) if module in process.cmdline())


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time of a process since its start."""
    times = process.cpu_times()
    return float(times.user + times.system)


def tree_cpu_seconds(root: psutil.Process) -> float:
    """User and system time of a process and all below it, those that have ended meanwhile included."""
    total = 0.0
    for process in (root, *root.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # its time is in its parent's `children_` times from now on
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def machine_cpu_seconds() -> float:
    """What all programs of this machine have used since it started."""
    times = psutil.cpu_times()
    return float(sum(times) - sum(getattr(times, name, 0.0) for name in ("idle", "iowait", "guest", "guest_nice")))
