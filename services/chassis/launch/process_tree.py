"""Find every process that belongs to a start, also those that left its session or lost their parents."""

import os

from services.chassis.launch import shim
from services.chassis.launch.records import Record, read_process
from services.chassis.launch.shim import ProcessStat


def find_victims(record: Record, *, with_shim: bool) -> list[ProcessStat]:
    """Return the living processes of a start.

    One belongs to it that is below the shim or the program, in the program's session, carries the start's marker in
    its environment, holds the lock under the shim's number, or works in its folder without a terminal. Only processes
    started after the shim count: a service that looks at the folder is never among them.
    """
    who = read_process(record)
    table = shim.processes()
    roots = {int(one["pid"]) for one in (who.get("shim"), who.get("program")) if one and shim.is_alive(one)}
    since = int(who["shim"]["start"]) if who else 0
    session = int(who["program"]["pid"]) if roots and who.get("program") else 0
    pids = roots | shim.descendants(roots, table)
    for pid, stat in table.items():
        if stat.start < since or pid == os.getpid():
            continue
        if (session and stat.session == session) or _is_marked(pid, record) or (who and _lives_in(stat, record)):
            pids.add(pid)
    if not with_shim and who:
        pids.discard(int(who["shim"]["pid"]))
    return [table[pid] for pid in pids if pid in table]


def _is_marked(pid: int, record: Record) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            variables = file.read().split(b"\0")
    except OSError:  # gone, or another user's
        return False
    return f"{shim.MARKER}={record.marker}".encode() in variables


def _lives_in(stat: ProcessStat, record: Record) -> bool:
    """Return whether a process lives in a folder. Where setproctitle overwrote its environment, lock or cwd tell."""
    pid = stat.pid
    try:
        lock = os.stat(record.folder / shim.LOCK_FILE)
        held = os.stat(f"/proc/{pid}/fd/{shim.LOCK_FD}")
        if (lock.st_dev, lock.st_ino) == (held.st_dev, held.st_ino):
            return True
    except OSError:
        pass
    if stat.terminal:  # somebody's shell, who came to look around
        return False
    try:
        return os.readlink(f"/proc/{pid}/cwd") == str(record.folder)
    except OSError:
        return False
