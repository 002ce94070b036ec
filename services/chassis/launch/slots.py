"""Who gets which cores: counting, without files and processes but for what the machine has."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from services.chassis.errors import Unavailable
from services.chassis.launch.cgroups import machine_limits
from services.chassis.launch.settings import OVERCOMMIT, PROGRAM_SLOTS, LaunchSettings

NO_FREE_SLOT = "NO_FREE_SLOT"
NEVER_FITS = "NEVER_FITS"


@dataclass(frozen=True)
class Capacity:
    """What a machine gives to programs.

    Attributes:
        cores: the numbers of the cores that programs may be bound to.
        slots: how many core slots are given out; more than there are cores when they are overcommitted.
        memory_mb: memory given out, in MiB.
        gpus: how many whole GPUs, numbered from 0.
        program_slots: one-shot programs that run at once, in a pool beside the cores that replicas and jobs take.
    """

    cores: tuple[int, ...]
    slots: int
    memory_mb: int
    gpus: int = 0
    program_slots: int = PROGRAM_SLOTS

    @classmethod
    def of_machine(
        cls,
        cpus: int = 0,
        overcommit: float = OVERCOMMIT,
        memory_mb: int = 0,
        gpus: int = -1,
        program_slots: int = PROGRAM_SLOTS,
    ) -> Capacity:
        """Return what this machine has; 0 (for GPUs -1) means all of it. `overcommit` 2.0: every core twice."""
        usable = sorted(os.sched_getaffinity(0))
        limits = machine_limits()
        count = cpus or min(len(usable), limits.cores or len(usable))
        if limits.cores and limits.cores < len(usable):
            # Containers with a quota share all cores of their host: were each bound to the first ones, they would meet
            # there. What it starts with is the container's own, and the same for every service of it.
            first = crc32(os.uname().nodename.encode()) % len(usable)
            usable = [*usable[first:], *usable[:first]]
        return cls(
            cores=tuple(sorted(usable[:count])),
            slots=max(1, int(count * overcommit)),
            memory_mb=memory_mb or _memory_mb(limits.memory_bytes),
            gpus=_gpu_count() if gpus < 0 else gpus,
            program_slots=program_slots,
        )

    @classmethod
    def of_settings(cls, settings: LaunchSettings) -> Capacity:
        """Return what the settings `launch_*` of a service say."""
        return cls.of_machine(
            settings.launch_cpus,
            settings.launch_cpu_overcommit,
            settings.launch_memory_mb,
            settings.launch_gpus,
            settings.launch_program_slots,
        )


@dataclass(frozen=True)
class Demand:
    """What one program asks for.

    Attributes:
        cpus: the cores it needs.
        most_cpus: above 0 for work that runs by itself (a job, an evaluation): it takes up to so many cores, as far as
            they are free, and shares none with other such work.
        program: a place in the pool of one-shot programs and nothing else.
    """

    cpus: int
    memory_mb: int = 0
    gpus: int = 0
    program: bool = False
    most_cpus: int = 0


@dataclass(frozen=True)
class Claim:
    """What one living program holds: `cpus` slots on these cores, memory, and these GPUs.

    A one-shot program (`program`) holds a place in its pool and no slot; it may use all cores when others do not.
    Work that runs by itself (`by_itself`) shares its cores with replicas at most.
    """

    cpus: int
    cores: tuple[int, ...]
    memory_mb: int = 0
    gpus: tuple[int, ...] = ()
    program: bool = False
    by_itself: bool = False


def assign(capacity: Capacity, claims: Sequence[Claim], demand: Demand) -> Claim:
    """Give the least loaded cores and the first free GPUs; cores are disjoint while free ones remain.

    Raises: Unavailable: reason NO_FREE_SLOT (something must end first) or NEVER_FITS (this machine is too small).
    """
    if demand.program:
        _check("place for a program", 1, sum(claim.program for claim in claims), capacity.program_slots)
        return Claim(0, capacity.cores, program=True)
    cores = _open_cores(capacity, claims, demand)
    total = min(capacity.slots, len(capacity.cores)) if demand.most_cpus else capacity.slots
    free = min(capacity.slots - sum(claim.cpus for claim in claims), len(cores) if demand.most_cpus else total)
    _check("CPU core", demand.cpus, total - free, total)
    _check("MiB of memory", demand.memory_mb, sum(claim.memory_mb for claim in claims), capacity.memory_mb)
    taken = {gpu for claim in claims for gpu in claim.gpus}
    _check("GPU", demand.gpus, len(taken), capacity.gpus)
    load = Counter(dict.fromkeys(capacity.cores, 0))
    for claim in claims:
        _add_load(load, claim)
    count = max(demand.cpus, min(demand.most_cpus, free))
    ranked = sorted(cores, key=lambda core: (load[core], core))
    gpus = tuple(gpu for gpu in range(capacity.gpus) if gpu not in taken)[: demand.gpus]
    given = tuple(sorted(ranked[:count]))
    return Claim(count, given, demand.memory_mb, gpus, by_itself=demand.most_cpus > 0)


def _open_cores(capacity: Capacity, claims: Sequence[Claim], demand: Demand) -> tuple[int, ...]:
    """Return the cores to choose from: threads of two jobs on one core would only wait for each other."""
    if not demand.most_cpus:
        return capacity.cores
    busy = {core for claim in claims if claim.by_itself for core in claim.cores}
    return tuple(core for core in capacity.cores if core not in busy)


def _add_load(load: Counter[int], claim: Claim) -> None:
    for slot in range(claim.cpus if claim.cores else 0):  # more slots than cores: some cores count twice
        load[claim.cores[slot % len(claim.cores)]] += 1


def _check(unit: str, wanted: int, held: int, total: int) -> None:
    if wanted <= total - held:
        return
    metadata = {"unit": unit, "wanted": str(wanted), "free": str(max(0, total - held)), "total": str(total)}
    if wanted > total:
        message = f"It needs {wanted} {_plural(unit, wanted)}, and this machine gives out {total} in all."
        raise Unavailable(message, reason=NEVER_FITS, metadata=metadata, retry_seconds=60)
    verb = "is" if held == 1 else "are"
    needed = f"it needs {wanted} {_plural(unit, wanted)}"
    message = f"No free slot: {needed}, and of the {total} on this machine {held} {verb} taken."
    raise Unavailable(message, reason=NO_FREE_SLOT, metadata=metadata, retry_seconds=2)


def _plural(unit: str, count: int) -> str:
    first, _, rest = unit.partition(" for ")
    return unit if count == 1 or unit.startswith("MiB") else f"{first}s{' for ' if rest else ''}{rest}"


def cpu_list(cores: Sequence[int]) -> str:
    """Write core numbers as Linux does: (0, 1, 2, 5) is "0-2,5"."""
    parts: list[str] = []
    ordered = sorted(set(cores))
    start = 0
    for index, core in enumerate(ordered):
        if index + 1 < len(ordered) and ordered[index + 1] == core + 1:
            continue
        parts.append(str(core) if ordered[start] == core else f"{ordered[start]}-{core}")
        start = index + 1
    return ",".join(parts)


def _memory_mb(limit_bytes: int | None) -> int:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return (total if limit_bytes is None else min(total, limit_bytes)) // (1024 * 1024)


def _gpu_count() -> int:
    return sum(1 for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdigit())
