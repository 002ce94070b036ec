"""Checks of a machine and an installation, each with what to do about it."""

import ctypes.util
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.local.files import LOOPBACK, is_port_free
from deploy.local.home import Home
from deploy.local.status import get_status
from services.chassis.launch import Capacity, Kind, LaunchSettings, Walls, machine_limits
from services.chassis.settings import Lookup

GOOD, FAIR, BAD = "good", "fair", "bad"
DISK_GB, MEMORY_MB = 10, 6_000


@dataclass(frozen=True)
class Finding:
    """One check: `good`, `fair` (it works, but) or `bad` (it does not)."""

    name: str
    verdict: str
    words: str


async def examine(home: Home) -> list[Finding]:
    """Return every check, in order."""
    result = [check() for check in (python, programs, machine, accelerator, allocator, compiler)]
    result += [isolation(home), disk(home.path), *private_files(home)]
    running = await get_status(home)
    if running["running"]:
        down = [row["name"] for row in running["processes"] if row["state"] != "ready"]
        words = (
            f"not ready: {', '.join(down)}; see {home.logs}" if down else f"all ready at {running['addresses']['http']}"
        )
        return [*result, Finding("stack", BAD if down else GOOD, words)]
    return [*result, Finding("stack", GOOD, "not running"), *ports(home)]


def python() -> Finding:
    """Check the interpreter."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Finding("python", GOOD if sys.version_info >= (3, 11) else BAD, f"{version} at {sys.executable}")


def programs() -> Finding:
    """Check the servers that come with the packages."""
    folder = Path(sys.executable).parent
    missing = [name for name in ("nats-server", "rclone") if not (folder / name).exists()]
    return (
        Finding("servers", BAD, f"missing {', '.join(missing)}: make setup")
        if missing
        else Finding("servers", GOOD, "nats-server and rclone are there")
    )


def machine() -> Finding:
    """Check the cores and memory that workers and replicas can have."""
    capacity = Capacity.of_machine()
    cores = len(capacity.cores)
    words = f"{cores} core{'s' if cores > 1 else ''}, {capacity.memory_mb} MB for workers and replicas"
    if (quota := machine_limits().cpu_seconds) is not None:
        words += f" (a quota of {quota:g} CPUs)"
    if capacity.memory_mb < MEMORY_MB:
        return Finding("machine", FAIR, f"{words}; one replica and one training at a time need {MEMORY_MB} MB")
    return Finding("machine", GOOD, words)


def accelerator() -> Finding:
    """NVIDIA driver, where there is one."""
    count = len([path for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdigit()])
    return Finding("accelerator", GOOD, f"{count} GPUs" if count else "no GPU: everything runs on the CPU")


def allocator() -> Finding:
    """tcmalloc, which makes replicas and training on the CPU faster."""
    if ctypes.util.find_library("tcmalloc_minimal"):
        return Finding("allocator", GOOD, "tcmalloc is there")
    return Finding("allocator", FAIR, "no tcmalloc: replicas and training are slower; Debian: libtcmalloc-minimal4")


def compiler() -> Finding:
    """Check the C++ compiler, which DeepSpeed and torch.compile use once."""
    if shutil.which("g++") or shutil.which("c++"):
        return Finding("compiler", GOOD, "a C++ compiler is there")
    return Finding("compiler", FAIR, "no C++ compiler: training with several ranks communicates more slowly")


def isolation(home: Home) -> Finding:
    """Check what keeps programs of one project from the files of another and from secrets."""
    lookup = Lookup(LaunchSettings, "training", {**os.environ, "MODELRY_HOME": str(home.path)})
    names = ("launch_isolation", "launch_user_ids")
    values = {name: place[0] for name in names if (place := next(lookup.places(name), None)) is not None}
    settings = LaunchSettings(service="training", home=home.path, **values)
    with tempfile.TemporaryDirectory() as stand_in:  # a look changes nothing in the home itself
        walls = Walls.of_settings(Path(stand_in), settings)
        kind = walls.kind
    if kind is Kind.USERS:
        words = f"programs of each project run as a user of their own ({settings.launch_user_ids})"
        return Finding("isolation", GOOD, words)
    if kind is Kind.NAMESPACES:
        return Finding("isolation", GOOD, "programs run in namespaces, in which the home has only what is theirs")
    words = f"programs can read whatever this user can, secrets and other projects too: {walls.why}"
    return Finding("isolation", FAIR, words)


def disk(path: Path) -> Finding:
    """Room for models and checkpoints."""
    existing = next(folder for folder in (path, *path.parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free / 1e9
    return Finding("disk", GOOD if free >= DISK_GB else FAIR, f"{free:.0f} GB free below {existing}")


def private_files(home: Home) -> Iterator[Finding]:
    """Files with secrets must be the owner's alone."""
    paths = [home.admin_key_file, home.observer_file, *sorted(home.secrets.glob("*"))]
    open_to_others = [path for path in paths if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077]
    for path in open_to_others:
        yield Finding("secrets", BAD, f"{path} can be read by others: chmod 600 {path}")
    foreign = home.path.is_dir() and home.path.stat().st_uid != os.geteuid()
    if foreign:
        yield Finding("secrets", BAD, f"{home.path} belongs to another user")
    if home.secrets.is_dir() and not open_to_others and not foreign:
        yield Finding("secrets", GOOD, "readable by their owner alone")


def ports(home: Home) -> Iterator[Finding]:
    """Yield the ports of the last start, which the next one uses again."""
    kept: dict[str, int] = home.state().get("ports", {})
    host = home.state().get("host", LOOPBACK)
    doors = {"http": host, "grpc": host}
    taken = {name: port for name, port in kept.items() if not is_port_free(port, doors.get(name, LOOPBACK))}
    for name, port in taken.items():
        yield Finding("ports", BAD, f"Port {port} ({name}) is taken by another program")
    if kept and not taken:
        yield Finding("ports", GOOD, "all free")
