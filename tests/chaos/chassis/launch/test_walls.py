"""What a program of one project can read of another's and of the installation: nothing, as root and without."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from services.chassis.launch import Capacity, Kind, LaunchSettings, LaunchSpec, LocalLauncher, ProbeState, Walls
from tests.stack import NAMELESS, can_be_nameless

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(60)]

SETTINGS = LaunchSettings(service="training", launch_user_ids="1900000000-1900000999")
CAPACITY = Capacity(tuple(sorted(os.sched_getaffinity(0)))[:1], slots=8, memory_mb=4000)
READER = r"""
import errno, json, os, sys
def tried(path):
    try:
        return sorted(os.listdir(path)) if os.path.isdir(path) else open(path).read()
    except OSError as error:
        return errno.errorcode[error.errno]
seen = {name: tried(path) for name, path in json.loads(sys.argv[1]).items()}
open("own", "w").write("mine")
open(os.path.join(os.environ["HF_HOME"], "kept"), "w").write("mine")
open("said.json", "w").write(json.dumps({**seen, "uid": os.getuid(), "own": tried("own"), "spec": tried("spec.json")}))
"""


async def ended(launcher: LocalLauncher, id: str) -> None:
    """Waits for the end of a program, which is a good one."""
    async with asyncio.timeout(30):
        while (probe := await launcher.probe(id)).state is ProbeState.RUNNING:
            await asyncio.sleep(0.02)
    assert probe.exit_code == 0, (probe, (await launcher.logs(id)).text)


async def read(
    launcher: LocalLauncher, home: Path, id: str, project: str, paths: Mapping[str, Path]
) -> dict[str, object]:
    """What a program of a project is told when it reads."""
    folder = home / "work" / id
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text("for me")
    (folder / "spec.json").chmod(0o600)
    cache = await launcher.cache(project)
    (home / "cache").mkdir(exist_ok=True)
    argv = [sys.executable, "-c", READER, json.dumps({name: str(path) for name, path in paths.items()})]
    (cache / "hub").mkdir(exist_ok=True)
    if os.geteuid() == 0:
        os.chown(cache / "hub", cache.stat().st_uid, -1)
    env = {"HF_HOME": str(home / "cache" / "hub")}
    await launcher.start(LaunchSpec(id, argv, env, folder, cpus=1, memory_mb=64, project=project))
    await ended(launcher, id)
    said: dict[str, object] = json.loads((folder / "said.json").read_text())
    assert (said["own"], said["spec"]) == ("mine", "for me")
    assert (cache / "hub" / "kept").read_text() == "mine"
    return said


@pytest.fixture
async def home() -> AsyncIterator[Path]:
    """A home with a secret and a file of settings."""
    with tempfile.TemporaryDirectory(prefix="walls-") as folder:
        home = Path(folder) / "我的 home"
        (home / "secrets").mkdir(parents=True, mode=0o700)
        (home / "secrets" / "token_secret").write_text("hidden")
        (home / "modelry.toml").write_text("objects_secret_key = 'hidden'")
        yield home


async def look_around(home: Path) -> None:
    """One program of each of two projects; the second tries to read all that is not its own."""
    launcher = LocalLauncher(home, CAPACITY, walls=Walls.of_settings(home, SETTINGS))
    secret = {"secrets": home / "secrets" / "token_secret", "settings": home / "modelry.toml"}
    first = await read(launcher, home, "ftjob-1-1", "proj-1", secret)
    others = {
        **secret,
        "attempt": home / "work" / "ftjob-1-1" / "spec.json",
        "result": home / "work" / "ftjob-1-1" / "said.json",
        "cache": await launcher.cache("proj-1") / "hub" / "kept",
        "records": home / "work" / ".launch" / "ftjob-1-1.json",
    }
    second = await read(launcher, home, "ftjob-2-1", "proj-2", others)
    if os.geteuid() == 0:
        assert first["uid"] != second["uid"]
        assert {first["uid"], second["uid"]} <= set(range(1_900_000_000, 1_900_001_000))
        assert {second[name] for name in others} == {"EACCES"}
    else:
        assert {second[name] for name in others} <= {"EACCES", "ENOENT", "EISDIR"}, second
    again = await read(launcher, home, "ftjob-1-2", "proj-1", {"cache": others["cache"]})
    assert (again["uid"], again["cache"]) == (first["uid"], "mine")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start programs as others")
async def test_as_root_a_worker_gets_eacces_for_all_that_is_not_its_project_s(home: Path) -> None:
    await look_around(home)


@pytest.mark.skipif(not can_be_nameless(), reason="no user namespaces here")
async def test_without_root_a_worker_sees_nothing_else_of_the_home(home: Path) -> None:
    code = f"import asyncio, pathlib; from {__name__} import look_around; asyncio.run(look_around(pathlib.Path(%r)))"
    done = await asyncio.create_subprocess_exec(*NAMELESS, sys.executable, "-c", code % str(home))
    assert await done.wait() == 0


async def test_a_worker_that_fills_more_memory_than_it_asked_for_gets_no_more(home: Path) -> None:
    launcher = LocalLauncher(home, CAPACITY, walls=Walls.of_settings(home, SETTINGS))
    code = "try:\n    b = bytearray(5 << 30)\nexcept MemoryError:\n    raise SystemExit(7)"
    argv, folder = [sys.executable, "-c", code], home / "work" / "ftjob-1-1"
    await launcher.start(LaunchSpec("ftjob-1-1", argv, {}, folder, cpus=1, memory_mb=100, project="proj-1"))
    async with asyncio.timeout(30):
        while (probe := await launcher.probe("ftjob-1-1")).state is ProbeState.RUNNING:
            await asyncio.sleep(0.02)
    assert probe.exit_code == 7


async def test_a_program_cannot_replace_what_the_launcher_writes(home: Path) -> None:
    walls = Walls.of_settings(home, SETTINGS)
    if walls.kind is not Kind.USERS:
        pytest.skip("without root its folder is its own")
    launcher = LocalLauncher(home, CAPACITY, walls=walls)
    code = (
        "import os, pathlib\n"
        "for name in ('launch.json', 'process.json', 'program.log'):\n"
        "    try:\n        os.unlink(name)\n    except PermissionError:\n        continue\n    raise SystemExit(1)\n"
    )
    folder = home / "work" / "ftjob-1-1"
    await launcher.start(LaunchSpec("ftjob-1-1", [sys.executable, "-c", code], {}, folder, cpus=1, project="proj-1"))
    await ended(launcher, "ftjob-1-1")
