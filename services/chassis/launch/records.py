"""What the local launcher keeps on disk, and how it tells what lives.

`DIR/work/.launch/<id>.json` leads from an id to its folder; the folder holds `launch.json` (the claim, written before
the start), `launch.lock` (held by shim and program), `process.json` and `exit.json` (written by the shim). Nothing here
is in a service's memory, so several services and a restarted one see the same.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.chassis.errors import Conflict, Invalid
from services.chassis.launch import shim
from services.chassis.launch.holders import Holder
from services.chassis.launch.slots import Claim, cpu_list
from services.chassis.launch.spec import Probe, ProbeState

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_LOCK_SECONDS = 2.0


@dataclass(frozen=True)
class Record:
    """One start as it was claimed."""

    id: str
    folder: Path
    claim: Claim
    marker: str
    argv: tuple[str, ...] = ()
    project: str = ""
    what: str = ""
    start_time: float = 0.0

    @property
    def holder(self) -> Holder:
        """Who it is to those that wait for its slots."""
        since = datetime.fromtimestamp(self.start_time, UTC)
        return Holder(self.what, self.project, since, ends=self.claim.by_itself or self.claim.program)

    def to_json(self) -> dict[str, Any]:
        """Return the content of `launch.json`, which the shim reads too."""
        return {
            "format": shim.FORMAT,
            "id": self.id,
            "argv": list(self.argv),
            "cwd": str(self.folder),
            "marker": self.marker,
            "project": self.project,
            "what": self.what,
            "start_time": self.start_time,
            **asdict(self.claim),
        }

    @classmethod
    def from_json(cls, folder: Path, content: dict[str, Any]) -> Record:
        """Return the claim that a folder holds."""
        claim = Claim(
            content["cpus"],
            tuple(content["cores"]),
            content["memory_mb"],
            tuple(content["gpus"]),
            program=content.get("program", False),
            by_itself=content.get("by_itself", False),
        )
        told = {name: content[name] for name in ("project", "what", "start_time") if name in content}
        return cls(content["id"], folder, claim, content["marker"], tuple(content["argv"]), **told)


def check_id(id: str) -> None:
    """Refuse an id that is no plain file name."""
    if not _ID.fullmatch(id):
        raise Invalid(f"{id!r} is no launch id: letters, digits, '.', '_' and '-', at most 128.", field="id")


class Records:
    """The claims of one home."""

    def __init__(self, home: Path) -> None:
        self._index = home / "work" / ".launch"

    @contextmanager
    def allocation(self) -> Iterator[None]:
        """Lock out other launchers and processes while this one counts and claims."""
        self._index.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._index / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def read(self, id: str) -> Record | None:
        """Return the record of an id, or None if it was never claimed or its folder is gone."""
        pointer = shim.read_json(str(self._path(id)))
        if pointer is None:
            return None
        folder = Path(pointer["folder"])
        content = shim.read_json(str(folder / shim.CLAIM_FILE))
        return Record.from_json(folder, content) if content and content["id"] == id else None

    def write(self, record: Record) -> None:
        """Store a claim: first in the folder, then in the index, so that a pointer always leads to a claim."""
        for name in (shim.PROCESS_FILE, shim.EXIT_FILE):  # of an earlier tenant of the folder
            (record.folder / name).unlink(missing_ok=True)
        shim.write_json(str(record.folder / shim.CLAIM_FILE), record.to_json())
        shim.write_json(str(self._path(record.id)), {"format": shim.FORMAT, "folder": str(record.folder)})

    def all(self) -> list[Record]:
        """Return every record whose folder is still there; pointers to folders that are gone are dropped."""
        records = []
        for path in sorted(self._index.glob("*.json")):
            record = self.read(path.stem)
            if record is None:
                path.unlink(missing_ok=True)
            else:
                records.append(record)
        return records

    def drop(self, record: Record) -> None:
        """Remove folder and pointer."""
        shutil.rmtree(record.folder, ignore_errors=True)
        self._path(record.id).unlink(missing_ok=True)

    def _path(self, id: str) -> Path:
        check_id(id)
        return self._index / f"{id}.json"


def lock_folder(folder: Path) -> int:
    """Take a folder's lock for the shim to inherit and return its descriptor. Raises Conflict if it is held."""
    descriptor = os.open(folder / shim.LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    end = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError as error:
            # A probe holds it shared for an instant; whoever holds it longer lives there.
            if time.monotonic() > end:
                os.close(descriptor)
                raise Conflict(f"The folder {folder} is in use by another program.", reason="FOLDER_IN_USE") from error
            time.sleep(0.005)


def is_locked(folder: Path) -> bool:
    """Return whether somebody lives in a folder. Asks with a shared lock, so that two who ask do not see each other."""
    try:
        descriptor = os.open(folder / shim.LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def probe(record: Record) -> Probe:
    """Say what is known of a start now: by its lock and by (pid, start time, boot), never by a bare pid."""
    held = is_locked(record.folder)
    cpus = cpu_list(record.claim.cores)
    who = read_process(record)
    shim_alive = shim.is_alive(who.get("shim"))
    if not shim_alive:
        who = read_process(record)  # it may have started the program between the two looks
    program = who.get("program")
    program_alive = shim.is_alive(program)
    coming_up = held and not who
    if shim_alive or program_alive or coming_up:
        pid = program["pid"] if program and program_alive else None
        return Probe(record.id, ProbeState.RUNNING, pid=pid, cpus=cpus, folder=record.folder, held=True)
    ended = shim.read_json(str(record.folder / shim.EXIT_FILE))
    if ended is None:
        return Probe(record.id, ProbeState.LOST, cpus=cpus, folder=record.folder, held=held)
    return Probe(
        record.id,
        ProbeState.EXITED,
        exit_code=ended["exit_code"],
        cpus=cpus,
        folder=record.folder,
        held=held,
        error=ended["error"],
    )


def read_process(record: Record) -> dict[str, Any]:
    """Return the shim's word on who runs (`shim`, `program`); empty before it came up."""
    return shim.read_json(str(record.folder / shim.PROCESS_FILE)) or {}


def was_started(record: Record) -> bool:
    """Return whether a shim ever came up for this record."""
    return bool(read_process(record)) or (record.folder / shim.EXIT_FILE).exists()
