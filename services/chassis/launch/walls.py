"""What keeps a program of one project from the files of another: a user of its own, or a view of its own.

As root each project's programs run as a user of their own: their folders and the project's cache are that user's, and
nothing else of a home may be read by it. Without root they run in namespaces of users and mounts, where that is
allowed, in which the home has nothing but those two. Where neither is possible nothing is kept from them.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from zlib import crc32

from services.chassis.errors import Unavailable
from services.chassis.launch import enclosure, shim
from services.chassis.launch.settings import LaunchSettings
from services.chassis.launch.spec import LaunchSpec

_ROOT = Path(__file__).resolve().parents[3]
_TRY_SECONDS = 10.0
MEMORY_FACTOR, MEMORY_MORE_MB = 2, 3072
_PROBE = "import google.protobuf, services.chassis.clock"
"""What is read to see whether Python, libraries and our own code can be."""


class Kind(StrEnum):
    """How programs are kept apart."""

    USERS = "USERS"
    NAMESPACES = "NAMESPACES"
    NONE = "NONE"


@dataclass(frozen=True)
class _View:
    """What `enclosure` is told."""

    folder: str
    user: int | None
    covers: tuple[str, ...]
    kept: tuple[str, ...]
    data_bytes: int


class Walls:
    """The walls of one home. What this machine allows is tried once, when the first program is started."""

    def __init__(self, home: Path, ids: range | None) -> None:
        """`ids`: the users for projects, as root; None: no walls."""
        self._home, self._ids = home, ids
        self.why = "switched off (launch_isolation)"
        """Why there are none, in words."""

    @classmethod
    def of_settings(cls, home: Path, settings: LaunchSettings) -> Walls:
        """Return the walls that a service's `launch_*` settings ask for."""
        first, _, last = settings.launch_user_ids.partition("-")
        return cls(home, range(int(first), int(last) + 1) if settings.launch_isolation else None)

    @cached_property
    def kind(self) -> Kind:
        """What is in force here."""
        if self._ids is None:
            return Kind.NONE
        kind = Kind.USERS if os.geteuid() == 0 else Kind.NAMESPACES
        view = self._view((Path("/"),), self._ids[0] if kind is Kind.USERS else None)
        argv = [*_enclosed(view), sys.executable, "-c", _PROBE]
        environment = {"PYTHONPATH": os.pathsep.join((str(_ROOT), str(_ROOT / "sdk"))), "PYTHONSAFEPATH": "1"}
        try:
            if kind is Kind.USERS:
                self._open_home()
            done = subprocess.run(
                argv, env=environment, capture_output=True, check=False, timeout=_TRY_SECONDS, cwd="/", text=True
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            self.why = str(error)
            return Kind.NONE
        if done.returncode == 0:
            return kind
        self.why = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no reason was said"
        return Kind.NONE

    def cache(self, project: str) -> Path:
        """Return the folder of what programs of a project may keep for later; made when it is not there."""
        common = self._home / "cache"
        if self.kind is Kind.NONE or not project:
            return common
        folder = common / "projects" / project
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.kind is Kind.USERS:
            folder.parent.chmod(enclosure.PASSABLE)
            os.chown(folder, self._user(project), self._user(project))
        return folder

    def enclose(self, spec: LaunchSpec, env: Mapping[str, str]) -> tuple[tuple[str, ...], dict[str, str]]:
        """Return argv and environment of a program behind its walls, and give it its folder.

        The caller holds the lock of allocation. Raises: Unavailable: no user is left.
        """
        if not spec.project:
            return tuple(spec.argv), dict(env)
        most = _data_bytes(spec)
        if self.kind is Kind.NONE:
            open_view = _View(str(spec.folder), None, (), (), most)
            return (*_enclosed(open_view), *spec.argv), dict(env)
        user = self._user(spec.project) if self.kind is Kind.USERS else None
        self.give(spec)
        cache = self.cache(spec.project)
        common = str(self._home / "cache")
        moved = {
            name: f"{cache}{value[len(common) :]}" if value == common or value.startswith(f"{common}/") else value
            for name, value in env.items()
            if name != "TMPDIR" or user is None
        }
        view = self._view((spec.folder, cache, *spec.reads), user, most)
        return (*_enclosed(view), *spec.argv), {**moved, "HOME": str(spec.folder)}

    def give(self, spec: LaunchSpec) -> None:
        """Let a program read and write in its folder, where it runs as a user of its own."""
        if self.kind is Kind.USERS and spec.project and spec.folder.is_dir():
            _give_folder(spec.folder, self._user(spec.project))
            for folder in spec.reads:
                _let_read(folder)

    def _view(self, own: Sequence[Path], user: int | None, data_bytes: int = 0) -> _View:
        """Return what a program sees: of the home what is its own (the first is its folder), and what Python needs."""
        home = self._home.resolve()
        kept = {*_needed_paths(), *([home] if user is not None else [path.resolve() for path in own])}
        covers = {str(home)} if user is None else {top for path in kept for top in _shut_above(path)}
        return _View(str(own[0]), user, tuple(sorted(covers)), tuple(sorted(map(str, kept))), data_bytes)

    def _user(self, project: str) -> int:
        """Return the user of a project, for ever the same."""
        assert self._ids is not None
        path = str(self._home / "work" / ".launch" / "users")
        users: dict[str, int] = shim.read_json(path) or {}
        if project not in users:
            taken = set(users.values())
            # Homes beside this one begin at other places of the range.
            first = crc32(f"{self._home}/{project}".encode()) % len(self._ids)
            free = (self._ids[(first + step) % len(self._ids)] for step in range(len(self._ids)))
            users[project] = next((one for one in free if one not in taken), -1)
            if users[project] < 0:
                message = f"All {len(self._ids)} users of launch_user_ids have a project; widen the range."
                raise Unavailable(message, reason="NO_FREE_USER")
            shim.write_json(path, users)
        return users[project]

    def _open_home(self) -> None:
        """Let users of projects pass through to their folders; what lies there stays the owner's alone."""
        for name in ("", "work", "cache"):
            folder = self._home / name
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.chmod(enclosure.PASSABLE)
        for path in self._home.iterdir():
            if path.name not in ("work", "cache") and not path.is_symlink():
                path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o077)
        for path in (self._home / "cache").iterdir():
            if path.is_dir() and not path.is_symlink():
                # What is served lies below names that are digests: who does not know one finds nothing.
                path.chmod(enclosure.PASSABLE if path.name in ("projects", "models") else 0o700)


def _enclosed(view: _View) -> Sequence[str]:
    return sys.executable, "-I", "-S", enclosure.__file__, json.dumps(asdict(view))


def _data_bytes(spec: LaunchSpec) -> int:
    """Return the most that one process may fill: what was asked for is an estimate. A GPU's driver maps far more."""
    return 0 if spec.gpus or not spec.memory_mb else (MEMORY_FACTOR * spec.memory_mb + MEMORY_MORE_MB) << 20


def _needed_paths() -> Iterator[Path]:
    """Yield the folders that hold Python, libraries and our own code."""
    for text in {sys.prefix, sys.base_prefix, str(_ROOT), *sys.path, *os.environ.get("LD_LIBRARY_PATH", "").split(":")}:
        path = Path(text)
        if path.is_absolute() and path.is_dir() and path != Path("/"):
            yield from {path, path.resolve()}


def _shut_above(path: Path) -> Iterator[str]:
    """Yield the outermost folder above a path that other users cannot pass."""
    for folder in reversed(path.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            yield str(folder)
            return


def _let_read(folder: Path) -> None:
    """Let others read what lies in the folders of a folder: some libraries write weights for their owner alone."""
    for path in folder.glob("[!.]*/**/*"):
        known = path.lstat()
        if stat.S_ISREG(known.st_mode) and not known.st_mode & stat.S_IROTH:
            path.chmod(stat.S_IMODE(known.st_mode) | 0o044)


def _give_folder(folder: Path, user: int) -> None:
    """Let a user write into a folder and read what is there; what others put there it can neither change nor remove."""
    for path in folder.iterdir():
        known = path.lstat()
        if known.st_uid == user:
            continue  # its own, of a start before
        os.chown(path, 0, user, follow_symlinks=False)
        if stat.S_ISREG(known.st_mode):
            path.chmod(stat.S_IMODE(known.st_mode) | 0o040)
    os.chown(folder, 0, user)
    folder.chmod(0o1770)
