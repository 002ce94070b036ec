"""PROMISES.md, "Supervisor alone killed, then `up`": the control plane is replaced, workers and replicas go on."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.home import Home
from deploy.local.serve import end_everything
from deploy.local.status import get_status
from deploy.local.supervisor import Options, Supervisor
from services.chassis.launch import LaunchSpec, LocalLauncher, ProbeState

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(60)]
ROOT = Path(__file__).resolve().parents[3]
GROUND = frozenset({"nats", "objects"})
UP = (
    "import sys; from pathlib import Path\n"
    "from deploy.local import serve; from deploy.local.supervisor import Options\n"
    "options = Options(only=frozenset({'nats', 'objects'}))\n"
    "serve.serve(Path(sys.argv[1]), options, lambda home, state: print('up', flush=True))\n"
)


async def start_up(home: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", UP, str(home)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert await asyncio.to_thread(process.stdout.readline) == "up\n"
    return process


def control_plane(home: Home) -> dict[str, int]:
    return {name: entry["identity"]["pid"] for name, entry in home.state()["processes"].items()}


async def test_supervisor_alone_killed_then_up(tmp_path: Path) -> None:
    home, launcher = Home(tmp_path), LocalLauncher(tmp_path)
    process = await start_up(tmp_path)
    before = control_plane(home)
    spec = LaunchSpec(
        "ftjob-1-1", (sys.executable, "-c", "import time; time.sleep(600)"), {}, tmp_path / "work" / "a", 1
    )
    worker = await launcher.start(spec)
    try:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (await get_status(home))["running"]
        async with Supervisor(tmp_path, Options(only=GROUND)):
            assert (await get_status(home))["ready"]
            assert set(control_plane(home).values()).isdisjoint(before.values())
            found = await launcher.probe("ftjob-1-1")
            assert (found.state, found.pid) == (ProbeState.RUNNING, worker.pid)
    finally:
        await end_everything(home)
    assert (await launcher.probe("ftjob-1-1")).state is not ProbeState.RUNNING


async def test_everything_killed_at_once_then_up(tmp_path: Path) -> None:
    home = Home(tmp_path)
    process = await start_up(tmp_path)
    ports = home.state()["ports"]
    for pid in (process.pid, *control_plane(home).values()):
        subprocess.run(["kill", "-9", str(pid)], check=True)
    process.wait()
    async with Supervisor(tmp_path, Options(only=GROUND)):
        assert (await get_status(home))["ready"]
        assert home.state()["ports"] == ports
    assert not await end_everything(home)


async def test_down_of_one_home_leaves_the_other(tmp_path: Path) -> None:
    async with Supervisor(tmp_path / "one", Options(only=GROUND)) as one:
        second = await start_up(tmp_path / "two")
        assert await end_everything(Home(tmp_path / "two"))
        second.wait()
        assert (await get_status(one.home))["ready"]
