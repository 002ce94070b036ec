"""Real programs under real shims: found again after every kind of death, and ended without a trace."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from services.chassis.errors import Unavailable, WrongState
from services.chassis.launch import Capacity, LaunchSpec, LocalLauncher, Probe, ProbeState, shim

pytestmark = pytest.mark.chaos

CAPACITY = Capacity(cores=tuple(sorted(os.sched_getaffinity(0)))[:2], slots=2, memory_mb=1000)
SLEEP = (sys.executable, "-S", "-c", "import time; time.sleep(300)")
ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
async def launcher(tmp_path: Path) -> AsyncIterator[LocalLauncher]:
    launcher = LocalLauncher(tmp_path, CAPACITY)
    yield launcher
    for probe in await launcher.list():
        await launcher.kill(probe.id)


def spec(home: Path, id: str, *argv: str, cpus: int = 1, code: str = "", **more: object) -> LaunchSpec:
    program = argv or ((sys.executable, "-c", textwrap.dedent(code)) if code else SLEEP)
    fields: dict[str, object] = {"env": {}, "folder": home / "work" / id, "cpus": cpus, **more}
    return LaunchSpec(id=id, argv=program, **fields)  # type: ignore[arg-type]


async def until(condition: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not seen within {seconds} s: {what}"
        await asyncio.sleep(0.01)


async def ended(launcher: LocalLauncher, id: str, seconds: float = 10.0) -> Probe:
    end = time.monotonic() + seconds
    while (probe := await launcher.probe(id)).state is ProbeState.RUNNING:
        assert time.monotonic() < end, f"{id} still runs"
        await asyncio.sleep(0.01)
    return probe


def who(home: Path, id: str) -> dict[str, dict[str, int]]:
    found = shim.read_json(str(home / "work" / id / shim.PROCESS_FILE))
    assert found is not None
    return found


async def test_a_program_gets_its_cores_and_its_exit_code_is_kept(launcher: LocalLauncher, tmp_path: Path) -> None:
    code = """
        import os, sys
        print(sorted(os.sched_getaffinity(0)), os.environ["MODELRY_CPUS"], os.environ["OMP_NUM_THREADS"],
              os.environ["GREETING"], os.environ.get("MODELRY_SECRET"), os.getcwd())
        sys.exit(7)
    """
    os.environ["MODELRY_SECRET"] = "hidden"
    try:
        handle = await launcher.start(spec(tmp_path, "a-1", code=code, env={"GREETING": "hello"}))
    finally:
        del os.environ["MODELRY_SECRET"]
    probe = await ended(launcher, "a-1")
    assert (probe.state, probe.exit_code, probe.held) == (ProbeState.EXITED, 7, False)
    core = CAPACITY.cores[0]
    assert handle.cpus == probe.cpus == str(core)
    logs = await launcher.logs("a-1")
    assert logs.text.strip() == f"[{core}] {core} 1 hello None {tmp_path / 'work' / 'a-1'}"
    assert (await launcher.logs("a-1", logs.next_offset)).text == ""
    assert (await launcher.logs("a-1", -2)).text == "1\n"


async def test_a_program_lets_services_go_first(launcher: LocalLauncher, tmp_path: Path) -> None:
    await launcher.start(spec(tmp_path, "a-1", code="import time; time.sleep(300)"))
    pid = who(tmp_path, "a-1")["program"]["pid"]
    niceness = max(shim.NICENESS, os.getpriority(os.PRIO_PROCESS, 0))
    assert os.getpriority(os.PRIO_PROCESS, pid) == niceness
    autogroup = Path(f"/proc/{pid}/autogroup")
    assert not autogroup.exists() or autogroup.read_text().endswith(f"nice {shim.NICENESS}\n")
    await launcher.kill("a-1")


async def test_a_program_that_cannot_be_started_says_why(launcher: LocalLauncher, tmp_path: Path) -> None:
    await launcher.start(spec(tmp_path, "a-1", "/no/such/program"))
    probe = await ended(launcher, "a-1")
    assert (probe.exit_code, probe.error) == (127, "cannot start '/no/such/program': No such file or directory")


async def test_a_repeated_start_finds_the_first(launcher: LocalLauncher, tmp_path: Path) -> None:
    starts = await asyncio.gather(*(launcher.start(spec(tmp_path, "a-1")) for _ in range(8)))
    assert sum(handle.fresh for handle in starts) == 1
    assert len({handle.pid for handle in starts if handle.pid}) == 1
    await launcher.kill("a-1")
    again = await launcher.start(spec(tmp_path, "a-1"))
    assert not again.fresh
    assert (await launcher.probe("a-1")).exit_code == -signal.SIGKILL


async def test_a_full_machine_refuses_until_something_ends(launcher: LocalLauncher, tmp_path: Path) -> None:
    first = await launcher.start(spec(tmp_path, "a-1"))
    second = await launcher.start(spec(tmp_path, "a-2"))
    assert {first.cpus, second.cpus} == {str(core) for core in CAPACITY.cores}
    with pytest.raises(Unavailable, match="2 are taken"):
        await launcher.start(spec(tmp_path, "a-3"))
    assert not (tmp_path / "work" / "a-3").exists()
    await launcher.kill("a-1")
    third = await launcher.start(spec(tmp_path, "a-3"))
    assert (third.fresh, third.cpus) == (True, first.cpus)


async def test_a_signal_reaches_the_program_alone(launcher: LocalLauncher, tmp_path: Path) -> None:
    code = """
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        print("ready", flush=True)
        time.sleep(300)
    """
    await launcher.start(spec(tmp_path, "a-1", code=code))
    log = tmp_path / "work" / "a-1" / shim.LOG_FILE
    await until(lambda: "ready" in log.read_text(), "the handler")
    assert await launcher.signal("a-1", signal.SIGTERM)
    assert (await ended(launcher, "a-1")).exit_code == 0
    assert not await launcher.signal("a-1", signal.SIGTERM)
    assert not await launcher.signal("unknown", signal.SIGTERM)


FAMILY = """
    import os, signal, subprocess, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sleep = [sys.executable, "-S", "-c", "import time; time.sleep(300)"]
    def own_session(): return subprocess.Popen(sleep, start_new_session=True).pid
    def orphan_without_environment():
        start = f"subprocess.Popen({sleep!r}, start_new_session=True, env=dict(), stdout=-3, stderr=-3)"
        middle = [sys.executable, "-S", "-c", f"import subprocess; print({start}.pid)"]
        return int(subprocess.run(middle, capture_output=True, text=True, check=True).stdout)
    pids = [subprocess.Popen(sleep).pid, own_session(), orphan_without_environment()]
    print("family", *pids, flush=True)
    time.sleep(float(sys.argv[1]) if len(sys.argv) > 1 else 300)
"""


async def family(home: Path, id: str) -> list[int]:
    log = home / "work" / id / shim.LOG_FILE
    await until(lambda: log.exists() and "family" in log.read_text(), "the children")
    return [int(pid) for pid in log.read_text().split()[1:4]]


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if (stat := shim.read_stat(pid)) is not None and not stat.dead]


async def test_kill_leaves_nothing_not_even_other_sessions(launcher: LocalLauncher, tmp_path: Path) -> None:
    await launcher.start(spec(tmp_path, "a-1", code=FAMILY))
    pids = await family(tmp_path, "a-1")
    assert alive(pids) == pids
    await launcher.kill("a-1")
    assert alive([*pids, who(tmp_path, "a-1")["shim"]["pid"], who(tmp_path, "a-1")["program"]["pid"]]) == []
    assert (await launcher.probe("a-1")).exit_code == -signal.SIGKILL
    await launcher.kill("a-1")  # again, and for what never was, it is a quiet nothing
    await launcher.kill("unknown")


async def test_an_exit_takes_the_family_along(launcher: LocalLauncher, tmp_path: Path) -> None:
    await launcher.start(spec(tmp_path, "a-1", sys.executable, "-c", textwrap.dedent(FAMILY), "0"))
    pids = await family(tmp_path, "a-1")
    assert (await ended(launcher, "a-1")).exit_code == 0
    assert alive(pids) == []


async def test_shim_killed_while_the_program_lives(launcher: LocalLauncher, tmp_path: Path) -> None:
    await launcher.start(spec(tmp_path, "a-1", code=FAMILY))
    pids = await family(tmp_path, "a-1")
    program = who(tmp_path, "a-1")["program"]["pid"]
    os.kill(who(tmp_path, "a-1")["shim"]["pid"], signal.SIGKILL)
    await until(lambda: alive([who(tmp_path, "a-1")["shim"]["pid"]]) == [], "the shim's end")
    probe = await LocalLauncher(tmp_path, CAPACITY).probe("a-1")
    assert (probe.state, probe.pid, probe.held) == (ProbeState.RUNNING, program, True)
    os.kill(program, signal.SIGKILL)
    probe = await ended(launcher, "a-1")
    assert (probe.state, probe.exit_code) == (ProbeState.LOST, None)
    assert alive(pids) == pids  # nobody was there to clean up
    await launcher.kill("a-1")
    assert alive(pids) == []


async def test_the_lock_lasts_as_long_as_shim_or_program_lives(launcher: LocalLauncher, tmp_path: Path) -> None:
    await launcher.start(spec(tmp_path, "a-1", cpus=2))
    os.kill(who(tmp_path, "a-1")["shim"]["pid"], signal.SIGKILL)
    await until(lambda: alive([who(tmp_path, "a-1")["shim"]["pid"]]) == [], "the shim's end")
    with pytest.raises(Unavailable):
        await launcher.start(spec(tmp_path, "a-2"))
    assert (await launcher.usage()).cpus_held == 2
    os.kill(who(tmp_path, "a-1")["program"]["pid"], signal.SIGKILL)
    await ended(launcher, "a-1")
    assert (await launcher.usage()).cpus_held == 0
    assert (await launcher.start(spec(tmp_path, "a-2"))).fresh


async def test_a_reused_pid_is_neither_believed_nor_killed(launcher: LocalLauncher, tmp_path: Path) -> None:
    await launcher.start(spec(tmp_path, "a-1"))
    os.kill(who(tmp_path, "a-1")["shim"]["pid"], signal.SIGKILL)
    os.kill(who(tmp_path, "a-1")["program"]["pid"], signal.SIGKILL)
    await ended(launcher, "a-1")
    with subprocess.Popen(SLEEP, start_new_session=True) as bystander:
        forged = who(tmp_path, "a-1")
        forged["program"] = {**forged["program"], "pid": bystander.pid}
        forged["shim"] = {**forged["shim"], "pid": bystander.pid}
        shim.write_json(str(tmp_path / "work" / "a-1" / shim.PROCESS_FILE), forged)
        try:
            assert (await launcher.probe("a-1")).state is ProbeState.LOST
            assert not await launcher.signal("a-1", signal.SIGKILL)
            await launcher.kill("a-1")
            assert bystander.poll() is None
        finally:
            bystander.kill()


STARTER = """
    import asyncio, os, sys
    from pathlib import Path
    from services.chassis.launch import Capacity, LaunchSpec, LocalLauncher
    home, id, then = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    async def main():
        launcher = LocalLauncher(home, Capacity(tuple(sorted(os.sched_getaffinity(0)))[:2], 2, 1000))
        argv = (sys.executable, "-S", "-c", "import time; time.sleep(300)")
        handle = await launcher.start(LaunchSpec(id, argv, {}, home / "work" / id, cpus=1))
        print(handle.cpus, flush=True)
        if then == "die":
            os.kill(os.getpid(), 9)
    asyncio.run(main())
"""


def starter(home: Path, id: str, then: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", textwrap.dedent(STARTER), str(home), id, then]
    return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)


async def test_launcher_killed_between_spawn_and_commit(launcher: LocalLauncher, tmp_path: Path) -> None:
    with starter(tmp_path, "a-1", "die") as service:
        assert await asyncio.to_thread(service.wait) == -signal.SIGKILL
    probe = await launcher.probe("a-1")
    assert probe.state is ProbeState.RUNNING
    again = await launcher.start(spec(tmp_path, "a-1"))
    assert (again.fresh, again.pid) == (False, probe.pid)
    assert len(await launcher.list()) == 1


async def test_launcher_killed_between_claim_and_spawn(launcher: LocalLauncher, tmp_path: Path) -> None:
    await launcher.start(spec(tmp_path, "a-1"))
    await launcher.kill("a-1")
    for name in (shim.PROCESS_FILE, shim.EXIT_FILE):  # what such a death leaves: a claim, no process, no lock
        (tmp_path / "work" / "a-1" / name).unlink()
    assert (await launcher.probe("a-1")).state is ProbeState.LOST
    assert (await launcher.start(spec(tmp_path, "a-1"))).fresh


async def test_two_launchers_in_two_processes_share_the_slots(launcher: LocalLauncher, tmp_path: Path) -> None:
    services = [starter(tmp_path, f"a-{n}", "end") for n in range(2)]
    answers = [(await asyncio.to_thread(service.communicate))[0].strip() for service in services]
    assert sorted(answers) == [str(core) for core in CAPACITY.cores]
    with pytest.raises(Unavailable):
        await launcher.start(spec(tmp_path, "a-3"))
    for id in ("a-0", "a-1"):
        await launcher.kill(id)


async def test_forget_refuses_a_live_program_and_frees_the_id(launcher: LocalLauncher, tmp_path: Path) -> None:
    await launcher.start(spec(tmp_path, "a-1"))
    with pytest.raises(WrongState):
        await launcher.forget("a-1")
    await launcher.kill("a-1")
    await launcher.forget("a-1")
    assert not (tmp_path / "work" / "a-1").exists()
    assert (await launcher.start(spec(tmp_path, "a-1"))).fresh


async def test_ranks_share_the_cores(launcher: LocalLauncher, tmp_path: Path) -> None:
    code = "import os; print(os.environ['MODELRY_CPUS'], os.environ['OMP_NUM_THREADS'])"
    await launcher.start(spec(tmp_path, "a-1", code=code, cpus=2, ranks=2))
    await ended(launcher, "a-1")
    assert (await launcher.logs("a-1")).text.split()[1] == "1"
