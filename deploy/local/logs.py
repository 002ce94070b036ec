"""Log files of the processes: each writes its own by itself, and none grows without bound."""

import os
from pathlib import Path

MAX_BYTES = 10 << 20
KEPT = 3


def open_log(path: Path) -> int:
    """Return a descriptor to append with. The process goes on writing through it when the supervisor is gone."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def rotate(path: Path, max_bytes: int = MAX_BYTES, kept: int = KEPT) -> bool:
    """Copy a log that has grown too long to `.1` (and older ones on) and empty it; True when that was done.

    The writer keeps its descriptor, as it appends; what it writes between copy and cut is lost, a few lines at most.
    """
    try:
        if path.stat().st_size <= max_bytes:
            return False
    except FileNotFoundError:
        return False
    for number in range(kept - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            os.replace(older, path.with_name(f"{path.name}.{number + 1}"))
    newest = path.with_name(f"{path.name}.1")
    with path.open("rb") as source, open(os.open(newest, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as copy:
        while block := source.read(1 << 20):
            copy.write(block)
    os.truncate(path, 0)
    return True


def tail(path: Path, lines: int = 5) -> str:
    """Return the last lines of a log; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16384))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
