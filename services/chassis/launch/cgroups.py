"""What a container or a service unit may use: the CPU quota and memory limit of its cgroups, version 1 and 2."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CONTROLLERS = frozenset({"cpu", "memory"})
UNLIMITED = 1 << 60
"""Version 1 writes a number near 2^63 where there is no limit."""


@dataclass(frozen=True)
class Limits:
    """What may be used; None: no limit.

    Attributes:
        cpu_seconds: CPU time in a second, such as 1.5.
        memory_bytes: memory of everything in the group.
    """

    cpu_seconds: float | None = None
    memory_bytes: int | None = None

    @property
    def cores(self) -> int | None:
        """How many cores that is, at least 1: with a thread more, all of them would stand still in turn."""
        return None if self.cpu_seconds is None else max(1, int(self.cpu_seconds))


def machine_limits(root: Path = Path("/")) -> Limits:
    """Return the lowest limits of this process's groups and those above; `root` is where `proc` and `sys` are."""
    cpus, memory = math.inf, math.inf
    for folder in _groups(root):
        cpus = min(cpus, _quota(folder))
        memory = min(memory, _number(folder / "memory.max"), _number(folder / "memory.limit_in_bytes"))
    return Limits(None if cpus == math.inf else cpus, None if memory >= UNLIMITED else int(memory))


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folder of each group that this process is in, and of those above as far as they are seen."""
    own = dict(_memberships(root))
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        places, kind = before.split(), after.split()
        if len(places) < 5 or len(kind) < 3 or not kind[0].startswith("cgroup"):
            continue
        names = {""} if kind[0] == "cgroup2" else CONTROLLERS.intersection(kind[2].split(","))
        for path in {own[name] for name in names if name in own}:
            yield from _upwards(root / places[4].lstrip("/"), places[3], path)


def _memberships(root: Path) -> Iterator[tuple[str, str]]:
    """Yield (controller, path of the own group); the controller of version 2 is empty."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, path


def _upwards(mount: Path, mounted: str, path: str) -> Iterator[Path]:
    """Yield the group's folder below its mount, and those above. A container may see only a part of the tree."""
    inside = path.removeprefix(mounted.rstrip("/")).strip("/") if path.startswith(mounted) else ""
    folder = mount if ".." in inside.split("/") else mount / inside
    yield from (one for one in (folder, *folder.parents) if one.is_relative_to(mount))


def _quota(folder: Path) -> float:
    """Return the CPU seconds of a second that a group has, endless without a limit."""
    words = next(iter(_lines(folder / "cpu.max")), "").split()
    if len(words) == 2 and words[0].isdigit():
        return int(words[0]) / int(words[1])
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return quota / period if quota < math.inf and 0 < period < math.inf else math.inf


def _number(path: Path) -> float:
    text = next(iter(_lines(path)), "")
    return int(text) if text.isdigit() else math.inf


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
