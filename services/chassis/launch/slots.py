"""Who gets which cores: pure counting, no files and no processes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.chassis.errors import Unavailable
from services.chassis.launch.settings import PROGRAM_SLOTS, LaunchSettings

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
        overcommit: float = 1.0,
        memory_mb: int = 0,
        gpus: int = -1,
        program_slots: int = PROGRAM_SLOTS,
    ) -> Capacity:
        """Return what this machine has; 0 (for GPUs -1) means all of it. `overcommit` 2.0: every core twice."""
        usable = sorted(os.sched_getaffinity(0))
        count = cpus or min(len(usable), os.cpu_count() or 1)
        return cls(
            cores=tuple(usable[:count]),
            slots=max(1, int(count * overcommit)),
            memory_mb=memory_mb or _memory_mb(),
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
    """What one program asks for; `program`: a place in the pool of one-shot programs and nothing else."""

    cpus: int
    memory_mb: int = 0
    gpus: int = 0
    program: bool = False


@dataclass(frozen=True)
class Claim:
    """What one living program holds: `cpus` slots on these cores, memory, and these GPUs.

    A one-shot program (`program`) holds a place in its pool and no slot; it may use all cores when others do not.
    """

    cpus: int
    cores: tuple[int, ...]
    memory_mb: int = 0
    gpus: tuple[int, ...] = ()
    program: bool = False


def assign(capacity: Capacity, claims: Sequence[Claim], demand: Demand) -> Claim:
    """Give the least loaded cores and the first free GPUs; cores are disjoint while free ones remain.

    Raises: Unavailable: reason NO_FREE_SLOT (something must end first) or NEVER_FITS (this machine is too small).
    """
    if demand.program:
        _check("place for a program", 1, sum(claim.program for claim in claims), capacity.program_slots)
        return Claim(0, capacity.cores, program=True)
    _check("CPU core", demand.cpus, sum(claim.cpus for claim in claims), capacity.slots)
    _check("MiB of memory", demand.memory_mb, sum(claim.memory_mb for claim in claims), capacity.memory_mb)
    taken = {gpu for claim in claims for gpu in claim.gpus}
    _check("GPU", demand.gpus, len(taken), capacity.gpus)
    load = Counter(dict.fromkeys(capacity.cores, 0))
    for claim in claims:
        _add_load(load, claim)
    ranked = sorted(capacity.cores, key=lambda core: (load[core], core))
    cores = tuple(sorted(ranked[: demand.cpus]))
    gpus = tuple(gpu for gpu in range(capacity.gpus) if gpu not in taken)[: demand.gpus]
    return Claim(demand.cpus, cores, demand.memory_mb, gpus)


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
    message = (
        f"No free slot: it needs {wanted} {_plural(unit, wanted)}, and of the {total} on this machine {held} are taken."
    )
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


def _memory_mb() -> int:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:  # the limit of a container, where there is one
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        limit = "max"
    return (min(total, int(limit)) if limit.isdigit() else total) // (1024 * 1024)


def _gpu_count() -> int:
    return sum(1 for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdigit())
