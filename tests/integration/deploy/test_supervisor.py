"""The supervisor with real processes: restarts, refusals, leftovers, two homes, and the order of stopping."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from deploy.local.child import Backoff, Child
from deploy.local.files import choose_port
from deploy.local.home import CannotStart, Home
from deploy.local.serve import end_everything
from deploy.local.stack import SERVICE, Program
from deploy.local.status import get_status
from deploy.local.supervisor import Options, Supervisor
from services.chassis.launch import shim

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]
ROOT = Path(__file__).resolve().parents[3]
GROUND = frozenset({"nats", "objects"})
QUICK = Backoff(first_seconds=0.05, most_seconds=0.2)


def lives(pid: int) -> bool:
    """A zombie does not, whoever should have noticed its end."""
    stat = shim.read_stat(pid)
    return stat is not None and not stat.dead


def free_ports() -> dict[str, int | None]:
    first = choose_port()
    second = choose_port([first])
    return {"http": first, "grpc": second, "nats": choose_port([first, second])}


def ground_options() -> Options:
    return Options(ports=free_ports(), only=GROUND, ready_seconds=20, backoff=QUICK)


async def until(true: Callable[[], Awaitable[bool] | bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while True:
            found = true()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.02)


def script(name: str, code: str, ready: Callable[[], bool] = lambda: True, **more: object) -> Program:
    async def check() -> bool:
        return ready()

    return Program(name, (sys.executable, "-c", code), dict(os.environ), check, SERVICE, "", **more)  # type: ignore[arg-type]


def child(tmp_path: Path, program: Program) -> Child:
    return Child(program, tmp_path / f"{program.name}.log", lambda: None, QUICK)


async def test_ground_is_up_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with Supervisor(tmp_path, ground_options()) as supervisor:
        found = await get_status(supervisor.home)
        assert found["ready"]
        assert [row["version"] for row in found["processes"]] == ["2.15.1", "1.75.2"]
        assert (tmp_path / "nats.observer").stat().st_mode & 0o777 == 0o600
        pids = [row["pid"] for row in found["processes"]]
    assert [pid for pid in pids if lives(pid)] == []
    assert not (await get_status(Home(tmp_path)))["running"]


async def test_two_homes_run_side_by_side_and_keep_their_ports(tmp_path: Path) -> None:
    async with (
        Supervisor(tmp_path / "one", ground_options()) as one,
        Supervisor(tmp_path / "two", ground_options()) as two,
    ):
        assert set(one.addresses().values()).isdisjoint(two.addresses().values())
        before = one.addresses()
    async with Supervisor(tmp_path / "one", Options(only=GROUND)) as again:
        assert again.addresses() == before


async def test_what_dies_is_started_again(tmp_path: Path) -> None:
    async with Supervisor(tmp_path, ground_options()) as supervisor:
        pids = {one.program.name: one.identity["pid"] for one in supervisor.children if one.identity}
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
        await until(lambda: all(one.restarts == 1 and one.identity is not None for one in supervisor.children))
        await until(lambda: is_ready(supervisor.home))
        assert {row["restarts"] for row in (await get_status(supervisor.home))["processes"]} == {1}


async def is_ready(home: Home) -> bool:
    return bool((await get_status(home))["ready"])


async def test_a_second_supervisor_is_refused_and_disturbs_nothing(tmp_path: Path) -> None:
    async with Supervisor(tmp_path, ground_options()) as supervisor:
        with pytest.raises(CannotStart, match="is served already"):
            await Supervisor(tmp_path, ground_options()).start()
        assert await is_ready(supervisor.home)


async def test_a_process_that_keeps_dying_is_started_with_growing_pauses(tmp_path: Path) -> None:
    kept = child(tmp_path, script("dying", "raise SystemExit(7)", ready=lambda: False))
    kept.start()
    await until(lambda: kept.restarts >= 3)
    assert kept.exit_code == 7
    await kept.stop()
    assert kept.identity is None


async def test_a_wrong_setting_ends_the_trying(tmp_path: Path) -> None:
    code = "import sys; print('MODELRY_X: no number', file=sys.stderr); sys.exit(2)"
    kept = child(tmp_path, script("wrong", code, ready=lambda: False))
    kept.start()
    await asyncio.wait_for(kept.refused.wait(), 10)
    assert kept.restarts == 0
    assert "MODELRY_X: no number" in kept.log.read_text()
    await kept.stop()


async def test_a_missing_program_is_said_in_words(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    kept = child(tmp_path, Program("none", ("/no/such/program",), {}, never, SERVICE, ""))
    kept.start()
    await asyncio.wait_for(kept.refused.wait(), 10)
    assert "/no/such/program cannot be started: No such file" in kept.log.read_text()
    await kept.stop()


async def test_stopping_insists_and_takes_what_the_process_started(tmp_path: Path) -> None:
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(subprocess.Popen(['sleep', '600']).pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    kept = child(tmp_path, script("deaf", code, grace_seconds=0.2))
    kept.start()
    await until(lambda: kept.log.exists() and kept.log.read_text().endswith("\n"))
    grandchild = int(kept.log.read_text())
    await kept.stop()
    await until(lambda: not lives(grandchild))


def run_up(home: Path, *flags: str) -> subprocess.Popen[str]:
    """`up` of NATS and the object store in a process of its own, as the command does it."""
    code = (
        "import sys; from pathlib import Path\n"
        "from deploy.local import serve; from deploy.local.supervisor import Options\n"
        "options = Options(ports={'http': None}, only=frozenset({'nats', 'objects'}))\n"
        "serve.serve(Path(sys.argv[1]), options, lambda home, state: print('up', flush=True))\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(home), *flags], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def pids_of(home: Path) -> dict[str, int]:
    state = json.loads((home / "state.json").read_text())
    return {name: entry["identity"]["pid"] for name, entry in state["processes"].items() if entry["identity"]}


async def test_after_the_supervisor_alone_was_killed_up_replaces_what_it_left(tmp_path: Path) -> None:
    first = run_up(tmp_path)
    assert await asyncio.to_thread(first.stdout.readline) == "up\n"  # type: ignore[union-attr]
    left = pids_of(tmp_path)
    first.kill()
    first.wait()
    assert all(lives(pid) for pid in left.values())
    async with Supervisor(tmp_path, Options(only=GROUND)) as supervisor:
        assert await is_ready(supervisor.home)
        assert [pid for pid in left.values() if pid in pids_of(tmp_path).values()] == []
        assert [pid for pid in left.values() if lives(pid)] == []


@pytest.mark.parametrize("dead_before", [False, True])
async def test_down_ends_everything(tmp_path: Path, dead_before: bool) -> None:
    process = run_up(tmp_path)
    assert await asyncio.to_thread(process.stdout.readline) == "up\n"  # type: ignore[union-attr]
    pids = pids_of(tmp_path)
    if dead_before:
        process.kill()
        process.wait()
    assert await end_everything(Home(tmp_path))
    await asyncio.to_thread(process.wait)
    assert [pid for pid in pids.values() if lives(pid)] == []
    assert not await end_everything(Home(tmp_path))


async def test_a_mark_finds_a_process_that_was_never_noted(tmp_path: Path) -> None:
    environment = {**os.environ, "MODELRY_SUPERVISED": f"{tmp_path}:training"}
    process = subprocess.Popen(["sleep", "600"], env=environment)
    other = subprocess.Popen(["sleep", "600"], env={**os.environ, "MODELRY_SUPERVISED": f"{tmp_path}-other:training"})
    try:
        async with Supervisor(tmp_path, ground_options()):
            assert await asyncio.to_thread(process.wait, 5) == -signal.SIGTERM
            assert other.poll() is None
    finally:
        for one in (process, other):
            one.kill()
            one.wait()


async def test_down_ends_workers_after_their_last_checkpoint(tmp_path: Path) -> None:
    from services.chassis.launch import LaunchSpec, LocalLauncher

    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (open('checkpoint', 'w').close(), sys.exit(0)))\n"
        "open('running', 'w').close()\n"
        "time.sleep(600)\n"
    )
    folder = tmp_path / "work" / "one"
    handle = await LocalLauncher(tmp_path).start(LaunchSpec("one", (sys.executable, "-c", code), {}, folder, cpus=1))
    await until(lambda: (folder / "running").exists())
    assert await end_everything(Home(tmp_path))
    assert (folder / "checkpoint").exists()
    assert not lives(handle.pid or 0)
