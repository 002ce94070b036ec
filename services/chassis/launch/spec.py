"""What is asked of a launcher and what it answers; the same for every kind of launcher."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from services.chassis.launch.slots import Demand


@dataclass(frozen=True)
class LaunchSpec:
    """One program to start once.

    Attributes:
        id: name of the attempt or replica, never used again for another start; letters, digits, `.`, `_`, `-`.
        argv: program and arguments; the program is looked up on PATH when it is no path.
        env: variables added to those that pass from the service (`inherited`). None of its settings, secrets and
            `PYTHONPATH` does: what the program shall know stands here or in its spec.json.
        folder: the program's own folder and its working directory; made if missing.
        cpus: cores it needs, at least 1.
        memory_mb: memory it needs in MiB; 0 means that it is not counted.
        gpus: whole GPUs it needs.
        ranks: processes that will share the cores: OMP_NUM_THREADS is cores / ranks.
        program: it is a one-shot program: it takes a place in their pool, and none of what stands above.
        most_cpus: above 0 for work that runs by itself: it gets up to so many cores, as far as they are free.
        reads: folders that it reads beside its own and its project's cache.
        project: whose program it is.
        what: what it is to people, such as `job ftjob-7`: those of its project who wait for its slots are told.
    """

    id: str
    argv: Sequence[str]
    env: Mapping[str, str]
    folder: Path
    cpus: int
    memory_mb: int = 0
    gpus: int = 0
    ranks: int = 1
    program: bool = False
    most_cpus: int = 0
    reads: tuple[Path, ...] = ()
    project: str = ""
    what: str = ""

    @property
    def demand(self) -> Demand:
        """What it asks of the machine."""
        return Demand(self.cpus, self.memory_mb, self.gpus, self.program, self.most_cpus)


class ProbeState(StrEnum):
    """What is known of a started program."""

    RUNNING = "RUNNING"
    """The program, or the shim that waits for it, lives."""
    EXITED = "EXITED"
    """It ended and its exit code was written."""
    LOST = "LOST"
    """It does not run and nobody wrote how it ended (or it was never started here). Orphans of it may still live:
    `kill` ends them."""


@dataclass(frozen=True)
class Probe:
    """The state of one program as seen now.

    Attributes:
        id: the name that it was started under.
        state: running, exited or lost.
        exit_code: negative for a signal; None unless EXITED.
        pid: the program's pid while it runs.
        cpus: the cores given to it, such as "0-1"; empty for an unknown id.
        folder: its folder, None for an unknown id.
        held: whether its slots are still taken: by the program or by what it left behind.
        error: why it could not be started, in words.
    """

    id: str
    state: ProbeState
    exit_code: int | None = None
    pid: int | None = None
    cpus: str = ""
    folder: Path | None = None
    held: bool = False
    error: str = ""


@dataclass(frozen=True)
class Handle:
    """A started program.

    Attributes:
        id: the name it was started under.
        pid: its pid, None when it is already gone or just coming up.
        cpus: the cores given to it, such as "0-1".
        folder: its folder.
        fresh: False if it had been started before and this call only found it.
    """

    id: str
    pid: int | None
    cpus: str
    folder: Path
    fresh: bool = True


@dataclass(frozen=True)
class LogChunk:
    """A piece of a program's output.

    Attributes:
        text: whole UTF-8 characters from `offset` on; bytes that are none are shown as U+FFFD.
        offset: where the piece starts, in bytes.
        next_offset: where the next one starts.
        size: length of the output at the time, in bytes.
    """

    text: str = ""
    offset: int = 0
    next_offset: int = 0
    size: int = 0


@dataclass(frozen=True)
class Usage:
    """Slots of one machine: what there is and what is taken; `cores` are those that the slots stand for."""

    cpus: int
    cpus_held: int
    memory_mb: int
    memory_mb_held: int
    gpus: int
    cores: int
    ids: tuple[str, ...] = field(default=())


class Launcher(Protocol):
    """What services ask of a launcher, wherever the programs run."""

    async def start(self, spec: LaunchSpec) -> Handle:
        """Start a program once; a repeat with the same id finds the first. Raises Unavailable without a free slot."""

    async def probe(self, id: str) -> Probe:
        """Return what is known of it now; LOST for an id that was never started here."""

    async def signal(self, id: str, number: int) -> bool:
        """Send a signal to the program; False if it does not run."""

    async def kill(self, id: str) -> None:
        """End it and all that it started, and return when it was seen dead. Raises Unavailable if that takes long."""

    async def logs(self, id: str, offset: int = 0, limit: int = 65536) -> LogChunk:
        """Return a piece of its output; a negative offset counts from the end."""

    async def list(self) -> Sequence[Probe]:
        """Return everything started here whose folder is still there."""

    async def forget(self, id: str) -> None:
        """Drop an ended program with its folder. Raises WrongState while it runs."""

    async def cache(self, project: str) -> Path:
        """Return the folder of what programs of a project may keep for later."""

    async def check(self, demand: Demand, project: str) -> None:
        """Raise Unavailable as `start` would for a program of a project: NO_FREE_SLOT, NEVER_FITS."""

    async def usage(self) -> Usage:
        """Return what is free and what is taken."""
