"""The small program that stands between the launcher and one attempt or replica. Standard library only.

`python -I -S shim.py FOLDER LOCK_FD READY_FD` leaves its parent at once, holds the `flock` of the folder and hands
the descriptor on to the program (so that the lock lasts as long as either lives), binds both to their cores, writes
who they are to `process.json`, starts the program in a session of its own, writes its exit code to `exit.json` by
rename, and then kills what is left of it. Only SIGKILL ends it before its program.

The launcher imports the functions that read `/proc`, so that both sides mean the same by "alive".
"""

import contextlib
import ctypes
import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

LOCK_FILE = "launch.lock"
CLAIM_FILE = "launch.json"
PROCESS_FILE = "process.json"
EXIT_FILE = "exit.json"
LOG_FILE = "program.log"
MARKER = "MODELRY_LAUNCH"
"""Environment variable that every process of an attempt inherits; it tells an orphan's origin."""

LOCK_FD = 977
"""The number of the lock's descriptor in shim and program: no other process has this lock under this number."""

FORMAT = 1
SPAWN_FAILED = 127
CLEANUP_SECONDS = 10.0
NICENESS = 10
"""A program computes for long: gateway and services, which answer within milliseconds, go before it."""
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class ProcessStat:
    """What `/proc/<pid>/stat` says of a process; its start time is in clock ticks since boot."""

    pid: int
    parent: int
    group: int
    session: int
    start: int
    terminal: bool
    dead: bool


def boot_id() -> str:
    """Return the kernel's id of this boot: pids and start times of another boot mean nothing."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def read_stat(pid: int) -> ProcessStat | None:
    """Return the process of this pid, or None. A zombie is dead: it holds nothing but its number."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The name is in brackets and may hold spaces and brackets itself: fields start after the last bracket.
    fields = text[text.rindex(b")") + 2 :].split()
    return ProcessStat(
        pid,
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        start=int(fields[19]),
        terminal=fields[4] != b"0",
        dead=fields[0] in (b"Z", b"X", b"x"),
    )


def identity(pid: int) -> dict[str, Any] | None:
    """Return who a process is: its pid, its start time and the boot in which both hold."""
    stat = read_stat(pid)
    return None if stat is None else {"pid": pid, "start": stat.start, "boot_id": boot_id()}


def is_alive(who: dict[str, Any] | None) -> bool:
    """Return whether this very process still runs; another one that was given its pid is not it."""
    if not who or who.get("boot_id") != boot_id():
        return False
    stat = read_stat(int(who["pid"]))
    return stat is not None and stat.start == who["start"] and not stat.dead


def processes() -> dict[int, ProcessStat]:
    """Return every living process, by pid."""
    stats = (read_stat(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return {stat.pid: stat for stat in stats if stat is not None and not stat.dead}


def descendants(roots: set[int], table: dict[int, ProcessStat]) -> set[int]:
    """Return the pids below these roots, whatever group or session they went to."""
    children: dict[int, list[int]] = {}
    for stat in table.values():
        children.setdefault(stat.parent, []).append(stat.pid)
    below: set[int] = set()
    waiting = list(roots)
    while waiting:
        for pid in children.get(waiting.pop(), ()):
            if pid not in below:
                below.add(pid)
                waiting.append(pid)
    return below - roots


def kill_process(stat: ProcessStat, number: int = signal.SIGKILL) -> bool:
    """Signal this very process and no later owner of its pid; False if it is gone."""
    try:
        descriptor = os.pidfd_open(stat.pid)
    except (ProcessLookupError, PermissionError):
        return False
    try:
        now = read_stat(stat.pid)
        if now is None or now.start != stat.start or now.dead:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(descriptor)
    return True


def write_json(path: str, content: dict[str, Any]) -> None:
    """Write a small file whole or not at all: into a neighbour, to the disk, then by rename."""
    temporary = f"{path}.{os.getpid()}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)  # of a dead writer; or a link that the program put there
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_json(path: str) -> dict[str, Any] | None:
    """Return the content of such a file, or None if there is none, a broken one, or a link to another."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), encoding="utf-8") as file:
            content = json.load(file)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise
    return content if isinstance(content, dict) else None


def _take_lock_number(lock_fd: int) -> int:
    if lock_fd == LOCK_FD:
        return lock_fd
    try:
        os.dup2(lock_fd, LOCK_FD, inheritable=True)
    except OSError:  # fewer descriptors allowed than this number: the lock holds under any
        os.set_inheritable(lock_fd, True)
        return lock_fd
    os.close(lock_fd)
    return LOCK_FD


def _outlive() -> None:
    """Leave the launcher's session, adopt orphans below, and survive every signal that can be survived."""
    os.setsid()
    # Orphans come to the shim instead of to init, so that its clean-up finds them; without it the marker does.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # Handlers and not SIG_IGN: an ignored signal would stay ignored in the program.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda _number, _frame: None)


def _spawn(claim: dict[str, Any], lock_fd: int) -> subprocess.Popen[bytes]:
    if claim["cores"]:
        with contextlib.suppress(OSError):  # a core that was taken offline meanwhile
            os.sched_setaffinity(0, claim["cores"])
    program = subprocess.Popen(
        claim["argv"], cwd=claim["cwd"], stdin=subprocess.DEVNULL, start_new_session=True, pass_fds=(lock_fd,)
    )
    lower_priority(program.pid, NICENESS)
    return program


def lower_priority(pid: int, niceness: int) -> None:
    """Let others go before a process and its session.

    Where Linux groups processes by session (autogroup), the niceness of one counts inside of its session only.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, max(niceness, os.getpriority(os.PRIO_PROCESS, pid)))
        with open(f"/proc/{pid}/autogroup", "w", encoding="ascii") as file:
            file.write(str(niceness))


def _wait(program: int) -> int:
    """Wait for the program, reaping adopted orphans on the way; negative for a signal."""
    while True:
        pid, wait_status = os.waitpid(-1, 0)
        if pid == program:
            return os.waitstatus_to_exitcode(wait_status)


def _kill_rest(session: int) -> None:
    """Kill whoever is left below the shim or in the program's session, again until nobody is."""
    end = time.monotonic() + CLEANUP_SECONDS
    while time.monotonic() < end:
        table = processes()
        left = descendants({os.getpid()}, table) | {p for p, stat in table.items() if stat.session == session}
        if not left:
            return
        for pid in left:
            kill_process(table[pid])
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)


def _tell(ready_fd: int) -> None:
    with contextlib.suppress(OSError):  # the launcher may be gone; the attempt goes on without it
        os.write(ready_fd, b"1")
    os.close(ready_fd)


def run(folder: str, lock_fd: int, ready_fd: int) -> None:
    """Run the claim of a folder from start to clean end."""
    _outlive()
    if ready_fd == LOCK_FD:
        ready_fd = os.dup(ready_fd)
    lock_fd = _take_lock_number(lock_fd)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    claim = read_json(os.path.join(folder, CLAIM_FILE))
    if claim is None:
        raise SystemExit("shim: the folder has no readable launch.json")
    who = {"format": FORMAT, "id": claim["id"], "shim": identity(os.getpid()), "program": None}
    write_json(os.path.join(folder, PROCESS_FILE), who)
    try:
        program = _spawn(claim, lock_fd)
    except OSError as error:
        message = f"cannot start {claim['argv'][0]!r}: {error.strerror or error}"
        print(f"shim: {message}", file=sys.stderr, flush=True)
        exit_record = {"format": FORMAT, "exit_code": SPAWN_FAILED, "error": message, "time": time.time()}
        write_json(os.path.join(folder, EXIT_FILE), exit_record)
        _tell(ready_fd)
        return
    write_json(os.path.join(folder, PROCESS_FILE), {**who, "program": identity(program.pid)})
    _tell(ready_fd)
    code = _wait(program.pid)
    write_json(os.path.join(folder, EXIT_FILE), {"format": FORMAT, "exit_code": code, "error": "", "time": time.time()})
    _kill_rest(program.pid)


def main() -> None:
    """Fork once, so that the launcher's child ends at once and the shim belongs to nobody; then run."""
    folder, lock_fd, ready_fd = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if os.fork() == 0:
        run(folder, lock_fd, ready_fd)


if __name__ == "__main__":
    main()
