"""The small program between the shim and a program: builds the walls that the launcher asks for, then becomes it.

`python -I -S enclosure.py VIEW PROGRAM ARGUMENT…`, standard library only. VIEW is JSON: `folder` to work in; `user`,
who is to run it (null: as now); `covers`, folders of which it sees only what is in `kept`; `data_bytes`, the most
memory that each of its processes may fill (0: any).
"""

import ctypes
import json
import os
import resource
import sys
from collections.abc import Iterable
from typing import Any

FAILED = 126
CLONE_NEWNS, CLONE_NEWUSER = 0x0002_0000, 0x1000_0000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x4_0000
PR_SET_NO_NEW_PRIVS = 38
PASSABLE, SHUT = 0o711, 0o000


def enter(view: dict[str, Any]) -> None:
    """Build the walls of a view around this process. Raises: OSError: this machine does not allow them."""
    libc = ctypes.CDLL(None, use_errno=True)
    if view["covers"]:
        _leave_mounts(libc, view["user"] is None)
        for top in view["covers"]:
            _cover(libc, top, [path for path in view["kept"] if path.startswith(f"{top}/")])
    if view["user"] is not None:
        os.setgroups([])
        os.setresgid(*[view["user"]] * 3)
        os.setresuid(*[view["user"]] * 3)
    _check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    if view["data_bytes"]:
        resource.setrlimit(resource.RLIMIT_DATA, (view["data_bytes"], view["data_bytes"]))
    os.chdir(view["folder"])  # also where it is now: that may lie behind a cover


def _leave_mounts(libc: ctypes.CDLL, own_users: bool) -> None:
    """Get mounts of our own; without root also a table of users, in which this user is itself and nobody is root."""
    user, group = os.getuid(), os.getgid()
    _check(libc.unshare(CLONE_NEWNS | (CLONE_NEWUSER if own_users else 0)))
    if own_users:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    _mount(libc, "none", "/", "", MS_REC | MS_PRIVATE)


def _cover(libc: ctypes.CDLL, top: str, kept: Iterable[str]) -> None:
    """Put an empty folder over one, and into it what is kept; of everything else only the name is left."""
    opened = {path: os.open(path, os.O_PATH) for path in _outermost(kept)}
    folders = sorted({folder for path in opened for folder in _between(top, path)} | {top})
    names = {folder: os.listdir(folder) for folder in folders}
    _mount(libc, "none", top, "tmpfs", 0, f"mode={PASSABLE:o}")
    for folder in folders:
        if folder != top:
            os.mkdir(folder, PASSABLE)
        for path in {f"{folder}/{name}" for name in names[folder]} - {*folders, *opened}:
            os.mkdir(path, SHUT)
    for path, descriptor in opened.items():
        os.mkdir(path)
        _mount(libc, f"/proc/self/fd/{descriptor}", path, "", MS_BIND | MS_REC)
        os.close(descriptor)


def _outermost(paths: Iterable[str]) -> list[str]:
    every = set(paths)
    return sorted(path for path in every if not any(path.startswith(f"{other}/") for other in every))


def _between(top: str, path: str) -> Iterable[str]:
    """Yield the folders that lead from a folder to a path in it."""
    folder = os.path.dirname(path)
    while len(folder) > len(top):
        yield folder
        folder = os.path.dirname(folder)


def _mount(libc: ctypes.CDLL, source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    words = [os.fsencode(word) for word in (source, target, kind, options)]
    _check(libc.mount(words[0], words[1], words[2] or None, ctypes.c_ulong(flags), words[3] or None), target)


def _check(result: int, name: str = "") -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name or None)


def main() -> None:
    """Build the walls and become the program; what cannot be built ends it with a word and code 126."""
    view, argv = json.loads(sys.argv[1]), sys.argv[2:]
    try:
        enter(view)
    except OSError as error:
        print(f"enclosure: {error}", file=sys.stderr, flush=True)
        sys.exit(FAILED)
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - what the launcher was asked to start
    except OSError as error:
        print(f"enclosure: cannot start {argv[0]!r}: {error.strerror}", file=sys.stderr, flush=True)
        sys.exit(127)


if __name__ == "__main__":
    main()
