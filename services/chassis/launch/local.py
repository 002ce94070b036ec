"""The launcher for this machine: slots counted from held locks, one shim per program, everything found again."""

from __future__ import annotations

import asyncio
import os
import secrets
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from services.chassis.errors import Invalid, Unavailable, WrongState
from services.chassis.launch import shim
from services.chassis.launch.holders import holders_text
from services.chassis.launch.libraries import find_libraries, preloaded
from services.chassis.launch.process_tree import find_victims
from services.chassis.launch.records import Record, Records, check_id, lock_folder, probe, read_process, was_started
from services.chassis.launch.settings import LaunchSettings
from services.chassis.launch.slots import NO_FREE_SLOT, Capacity, Claim, Demand, assign, cpu_list
from services.chassis.launch.spec import Handle, LaunchSpec, LogChunk, Probe, ProbeState, Usage
from services.chassis.launch.surroundings import inherited
from services.chassis.launch.walls import Walls

_ROOT = Path(__file__).resolve().parents[3]
_READY_SECONDS = 15.0
_SHIM_GRACE_SECONDS = 3.0


class LocalLauncher:
    """Start programs on this machine. Any number of them, in any number of processes, may serve one home."""

    def __init__(
        self, home: Path, capacity: Capacity | None = None, *, kill_seconds: float = 30.0, walls: Walls | None = None
    ) -> None:
        """Args: capacity: all of the machine by default; kill_seconds: how long `kill` waits to see the end; walls:
        none by default.
        """
        self._walls = walls or Walls(Path(home), None)
        self._records = Records(Path(home))
        self.capacity = capacity or Capacity.of_machine()
        self._kill_seconds = kill_seconds

    @classmethod
    def of_settings(cls, home: Path, settings: LaunchSettings) -> LocalLauncher:
        """Return a launcher with the capacity that a service's `launch_*` settings give."""
        return cls(home, Capacity.of_settings(settings), walls=Walls.of_settings(home, settings))

    async def start(self, spec: LaunchSpec) -> Handle:
        """Start a program once.

        A repeat with the same id finds the first start, whether it still runs or has ended; only one that never came
        up is started anew. Raises: Unavailable: NO_FREE_SLOT, NEVER_FITS. Invalid: a spec that cannot be right.
        Conflict: the folder is another's.
        """
        return await asyncio.to_thread(self._start, spec)

    async def probe(self, id: str) -> Probe:
        """Return what is known of a start now; LOST for an id that was never started here."""
        return await asyncio.to_thread(self._probe, id)

    async def signal(self, id: str, number: int) -> bool:
        """Send a signal to the program alone; False if it does not run (yet or any more)."""
        return await asyncio.to_thread(self._signal, id, number)

    async def kill(self, id: str) -> None:
        """Kill the program and all that it started, and return when nothing of it lives and its slots are free.

        Raises: Unavailable: something was still alive after `kill_seconds`.
        """
        begin = time.monotonic()
        while await asyncio.to_thread(self._kill_once, id, time.monotonic() - begin > _SHIM_GRACE_SECONDS):
            if time.monotonic() - begin > self._kill_seconds:
                raise Unavailable(f"{id} is still alive {self._kill_seconds:g} s after it was killed.")
            await asyncio.sleep(0.02)

    async def logs(self, id: str, offset: int = 0, limit: int = 65536) -> LogChunk:
        """Return a piece of the program's output; a negative offset counts from the end."""
        return await asyncio.to_thread(self._logs, id, offset, limit)

    async def list(self) -> Sequence[Probe]:
        """Return everything started in this home whose folder is still there."""
        return await asyncio.to_thread(lambda: [probe(record) for record in self._records.all()])

    async def forget(self, id: str) -> None:
        """Drop an ended start with its folder; its id may then be used again. Raises WrongState while it runs."""
        await asyncio.to_thread(self._forget, id)

    async def cache(self, project: str) -> Path:
        """Return the folder of what programs of a project may keep for later."""
        return await asyncio.to_thread(self._cache, project)

    async def check(self, demand: Demand, project: str) -> None:
        """Raise Unavailable as `start` would now: NO_FREE_SLOT, NEVER_FITS."""
        await asyncio.to_thread(self._assign, demand, project)

    async def usage(self) -> Usage:
        """Return what this machine gives out and what is taken."""
        return await asyncio.to_thread(self._usage)

    def _start(self, spec: LaunchSpec) -> Handle:
        _check_spec(spec)
        _ = self._walls.kind  # tried before the lock is taken
        with self._records.allocation():
            record = self._records.read(spec.id)
            if record is not None:
                seen = probe(record)
                if seen.held or was_started(record):
                    self._walls.give(spec)  # its spec was perhaps written anew
                    return Handle(spec.id, seen.pid, seen.cpus, record.folder, fresh=False)
            claim = self._assign(spec.demand, spec.project)
            spec.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            marker = f"{spec.id}/{secrets.token_hex(8)}"
            told = (spec.project, spec.what, time.time())
            argv, env = self._walls.enclose(spec, _environment(spec, claim))
            record = Record(spec.id, spec.folder.resolve(), claim, marker, argv, *told)
            lock_fd = lock_folder(record.folder)
            try:
                self._records.write(record)
            except BaseException:
                os.close(lock_fd)
                raise
        try:
            _spawn_shim(record, lock_fd, {**env, shim.MARKER: marker})
        finally:
            os.close(lock_fd)
        seen = probe(record)
        return Handle(spec.id, seen.pid, seen.cpus, record.folder)

    def _assign(self, demand: Demand, project: str) -> Claim:
        """Return what a program gets now. Raises: Unavailable, which names those who hold what it waits for."""
        held = self._held()
        try:
            return assign(self.capacity, [one.claim for one in held], demand)
        except Unavailable as error:
            same_pool = [one.holder for one in held if one.claim.program == demand.program]
            words = holders_text(same_pool, project) if error.reason == NO_FREE_SLOT else ""
            raise Unavailable(
                f"{error.message} {words}".strip(),
                reason=error.reason,
                metadata=error.metadata,
                retry_seconds=error.retry_seconds,
            ) from None

    def _cache(self, project: str) -> Path:
        _ = self._walls.kind
        with self._records.allocation():
            return self._walls.cache(project)

    def _held(self) -> Sequence[Record]:
        return [record for record in self._records.all() if probe(record).held]

    def _probe(self, id: str) -> Probe:
        record = self._records.read(id)
        return Probe(id, ProbeState.LOST) if record is None else probe(record)

    def _signal(self, id: str, number: int) -> bool:
        record = self._records.read(id)
        program = read_process(record).get("program") if record else None
        if not program or not shim.is_alive(program):
            return False
        stat = shim.read_stat(program["pid"])
        return stat is not None and stat.start == program["start"] and shim.kill_process(stat, number)

    def _kill_once(self, id: str, with_shim: bool) -> bool:
        """Kill once; True if something may be left. The shim is spared at first: it writes down the exit code."""
        record = self._records.read(id)
        if record is None:
            return False
        victims = find_victims(record, with_shim=with_shim)
        for stat in victims:
            shim.kill_process(stat)
        return bool(victims) or probe(record).held

    def _logs(self, id: str, offset: int, limit: int) -> LogChunk:
        record = self._records.read(id)
        path = record.folder / shim.LOG_FILE if record else None
        if path is None or not path.exists():
            return LogChunk()
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            begin = max(0, size + offset) if offset < 0 else min(offset, size)
            file.seek(begin)
            data = file.read(max(0, limit))
        data = _whole_characters(data) or data
        return LogChunk(data.decode("utf-8", "replace"), begin, begin + len(data), size)

    def _forget(self, id: str) -> None:
        with self._records.allocation():
            record = self._records.read(id)
            if record is None:
                return
            seen = probe(record)
            if seen.held:
                raise WrongState.of("program", id, "forget", seen.state.value, [ProbeState.EXITED.value])
            self._records.drop(record)

    def _usage(self) -> Usage:
        held = self._held()
        return Usage(
            cpus=self.capacity.slots,
            cpus_held=sum(record.claim.cpus for record in held),
            memory_mb=self.capacity.memory_mb,
            memory_mb_held=sum(record.claim.memory_mb for record in held),
            gpus=self.capacity.gpus,
            cores=len(self.capacity.cores),
            ids=tuple(record.id for record in held),
        )


def _check_spec(spec: LaunchSpec) -> None:
    check_id(spec.id)
    if not spec.argv:
        raise Invalid("There is no program to start.", field="argv")
    for name, value, least in (("cpus", spec.cpus, 1), ("ranks", spec.ranks, 1)):
        if value < least:
            raise Invalid(f"{name} must be at least {least}, not {value}.", field=name)
    for name, value in (("memory_mb", spec.memory_mb), ("gpus", spec.gpus)):
        if value < 0:
            raise Invalid(f"{name} must not be negative.", field=name)


def _environment(spec: LaunchSpec, claim: Claim) -> Mapping[str, str]:
    """Return what passes of the service's environment, the spec's, and what the launcher decided."""
    env = inherited(os.environ)
    env["OMP_NUM_THREADS"] = str(max(1, len(claim.cores) // spec.ranks))
    env.update(spec.env)
    # The program runs in its own folder, and `python -m services...` must be found from there.
    env["PYTHONPATH"] = os.pathsep.join((str(_ROOT), str(_ROOT / "sdk")))
    env["MODELRY_CPUS"] = cpu_list(claim.cores)
    if claim.gpus:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(str(gpu) for gpu in claim.gpus)
    return preloaded(env, find_libraries())


def _spawn_shim(record: Record, lock_fd: int, env: Mapping[str, str]) -> None:
    """Start the shim with the lock already held and wait until its program runs (or could not be started)."""
    log = os.open(record.folder / shim.LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    ready, told = os.pipe()
    try:
        argv = [sys.executable, "-I", "-S", shim.__file__, str(record.folder), str(lock_fd), str(told)]
        child = subprocess.Popen(
            argv, env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(lock_fd, told)
        )
        os.close(told)
        told = -1
        child.wait()  # it forks and ends at once
        select.select([ready], [], [], _READY_SECONDS)
    except OSError as error:
        raise Unavailable(f"Cannot start a process: {error.strerror or error}.", reason="SPAWN_FAILED") from error
    finally:
        for descriptor in (log, ready, told):
            if descriptor >= 0:
                os.close(descriptor)


def _whole_characters(data: bytes) -> bytes:
    """Cut a character that was read or written only in part from the end."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte < 0x80:
            return data
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data if back >= length else data[:-back]
    return data
