"""A cgroup with a CPU quota, of either version, where this machine allows one to be made."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PERIOD = 100_000
V1, V2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")


@contextmanager
def quota(cpus: float) -> Iterator[tuple[str, ...]]:
    """Yields words before a command that then may use so many CPUs; none where no group can be made."""
    parent = V1 if (V1 / "cpu.cfs_quota_us").exists() else V2
    group = parent / f"modelry-{secrets.token_hex(4)}"
    try:
        group.mkdir()
        if parent == V1:
            (group / "cpu.cfs_quota_us").write_text(str(int(cpus * PERIOD)))
        else:
            (group / "cpu.max").write_text(f"{int(cpus * PERIOD)} {PERIOD}")
    except OSError:
        with suppress(OSError):
            group.rmdir()
        yield ()
        return
    try:
        yield ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh")
    finally:
        _remove(group)


def _remove(group: Path) -> None:
    """A group can be removed once its last process is gone."""
    deadline = time.monotonic() + 20
    while group.exists() and time.monotonic() < deadline:
        with suppress(OSError):
            os.rmdir(group)
