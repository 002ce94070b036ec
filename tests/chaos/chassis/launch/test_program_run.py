"""One-shot programs under real shims: in a pool of their own, without secrets, found again, and every end is told."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from services.chassis.errors import Unavailable
from services.chassis.launch import (
    NO_FREE_SLOT,
    Capacity,
    LaunchSpec,
    LocalLauncher,
    Probe,
    ProbeState,
    ProgramResult,
    ProgramRun,
)

pytestmark = pytest.mark.chaos

TOY = "tests.toy_program"
CAPACITY = Capacity(tuple(sorted(os.sched_getaffinity(0)))[:2], slots=2, memory_mb=1000, program_slots=2)
SLEEP = (sys.executable, "-S", "-c", "import time; time.sleep(300)")


@pytest.fixture
async def launcher(tmp_path: Path) -> AsyncIterator[LocalLauncher]:
    launcher = LocalLauncher(tmp_path, CAPACITY)
    yield launcher
    for probe in await launcher.list():
        await launcher.kill(probe.id)


async def played(run: ProgramRun, **spec: Any) -> ProgramResult | None:
    await run.start(TOY, spec)
    return await run.finish(60)


async def test_a_program_gives_its_result_and_its_progress(launcher: LocalLauncher, tmp_path: Path) -> None:
    told: list[Mapping[str, Any]] = []

    async def note(progress: Mapping[str, Any]) -> None:
        told.append(progress)

    run = ProgramRun(launcher, tmp_path, "toy-1")
    await run.start(TOY, {"seconds": 1.5})
    assert (run.folder / "spec.json").stat().st_mode & 0o777 == 0o600
    result = await run.finish(60, note)
    assert result is not None and result.ok and result.result["niceness"] >= 5
    assert told == [{"step": 1}]
    await run.discard()
    assert not run.folder.exists() and await launcher.list() == []


async def test_its_environment_holds_no_secret_of_the_service(
    launcher: LocalLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = {"MODELRY_TOKEN_SECRET", "AWS_PROFILE", "HF_TOKEN", "OPENAI_API_KEY", "DB_PASSWORD", "GIT_CREDENTIALS"}
    for name in secret:
        monkeypatch.setenv(name, "hidden")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    result = await played(ProgramRun(launcher, tmp_path, "toy-1"))
    assert result is not None
    environment = result.result["environment"]
    assert "hidden" not in environment.values()
    assert environment["TOKENIZERS_PARALLELISM"] == "false" and environment["PATH"] == os.environ["PATH"]


async def test_it_sees_nothing_that_was_left_over_and_reaches_this_machine_without_a_proxy(
    launcher: LocalLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('shadowed')")
    left = {"PYTHONPATH": str(tmp_path), "RANK": "3", "WORLD_SIZE": "4", "AWS_CA_BUNDLE": "/gone", "VLLM_PORT": "x"}
    proxies = {"https_proxy": "http://proxy.example:3128", "HTTP_PROXY": "http://proxy.example:3128"}
    for name, value in {**left, **proxies, "HF_ENDPOINT": "https://mirror.example"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("no_proxy", raising=False)
    result = await played(ProgramRun(launcher, tmp_path, "toy-1"))
    assert result is not None and result.ok
    environment = result.result["environment"]
    assert {name for name, value in left.items() if environment.get(name) == value} == set()
    assert {name: environment.get(name) for name in proxies} == proxies
    assert environment["HF_ENDPOINT"] == "https://mirror.example"
    assert {"127.0.0.1", "localhost", "::1"} <= set(environment["no_proxy"].split(","))


async def test_it_imports_nothing_from_the_folder_that_it_works_in(launcher: LocalLauncher, tmp_path: Path) -> None:
    folder = tmp_path / "work" / "a-1"
    (folder / "services").mkdir(parents=True)
    for name in ("random.py", "services/__init__.py"):
        (folder / name).write_text("raise SystemExit('shadowed')")
    await launcher.start(LaunchSpec("a-1", [sys.executable, "-m", "services.chassis.ids"], {}, folder, cpus=1))
    while (probe := await launcher.probe("a-1")).state is ProbeState.RUNNING:
        await asyncio.sleep(0.02)
    assert probe.exit_code == 0, await launcher.logs("a-1")


async def test_replicas_that_hold_every_core_do_not_keep_it_waiting(launcher: LocalLauncher, tmp_path: Path) -> None:
    for number in range(2):
        folder = tmp_path / "work" / f"rep-{number}"
        await launcher.start(LaunchSpec(f"rep-{number}", SLEEP, {}, folder, cpus=1, memory_mb=500))
    with pytest.raises(Unavailable):
        await launcher.start(LaunchSpec("rep-2", SLEEP, {}, tmp_path / "work" / "rep-2", cpus=1))
    result = await played(ProgramRun(launcher, tmp_path, "toy-1"))
    assert result is not None and result.ok


async def test_programs_take_nothing_from_replicas_and_wait_for_each_other(
    launcher: LocalLauncher, tmp_path: Path
) -> None:
    for number in range(2):
        await ProgramRun(launcher, tmp_path, f"toy-{number}").start(TOY, {"seconds": 300})
    usage = await launcher.usage()
    assert (usage.cpus_held, usage.memory_mb_held) == (0, 0)
    third = ProgramRun(launcher, tmp_path, "toy-2")
    with pytest.raises(Unavailable, match="needs 1 place for a program, and of the 2") as refusal:
        await third.start(TOY, {"access_key": "hidden"})
    assert refusal.value.reason == NO_FREE_SLOT
    assert not third.folder.exists(), "a spec with secrets is not left behind"
    whole = LaunchSpec("rep-1", SLEEP, {}, tmp_path / "work" / "rep-1", cpus=2, memory_mb=1000)
    assert (await launcher.start(whole)).fresh


async def test_a_killed_services_program_is_found_again_by_its_id(launcher: LocalLauncher, tmp_path: Path) -> None:
    await ProgramRun(launcher, tmp_path, "toy-1").start(TOY, {"seconds": 2})
    later = ProgramRun(LocalLauncher(tmp_path, CAPACITY), tmp_path, "toy-1")
    assert await later.exists()
    pid = (await launcher.probe("toy-1")).pid
    await later.start(TOY, {"end": "die"})  # it runs: nothing is started, and its spec stays
    result = await later.finish(60)
    assert result is not None and result.result["pid"] == pid
    assert await ProgramRun(launcher, tmp_path, "toy-1").exists(), "so is one that has ended meanwhile"
    assert not await ProgramRun(launcher, tmp_path, "toy-2").exists()


async def test_one_that_ends_while_it_is_looked_for_is_found(launcher: LocalLauncher, tmp_path: Path) -> None:
    """A service that looked for the result first and for the program then took such a one for lost."""
    await ProgramRun(launcher, tmp_path, "toy-1").start(TOY, {"seconds": 0.2})

    class Late(LocalLauncher):
        async def probe(self, id: str) -> Probe:
            while (seen := await super().probe(id)).state is ProbeState.RUNNING:
                await asyncio.sleep(0.01)
            return seen

    assert await ProgramRun(Late(tmp_path, CAPACITY), tmp_path, "toy-1").exists()


async def test_every_end_is_told(launcher: LocalLauncher, tmp_path: Path) -> None:
    refused = await played(ProgramRun(launcher, tmp_path, "toy-1"), end="refuse")
    assert refused == ProgramResult({}, "NOT_LIKED", "The toy does not like this.", user=True)
    surprise = await played(ProgramRun(launcher, tmp_path, "toy-2"), end="surprise")
    assert surprise == ProgramResult({}, "TOY_FAILED", "The toy broke; its log says where.", user=False)
    dead = ProgramRun(launcher, tmp_path, "toy-3")
    assert await played(dead, end="die") is None
    assert await dead.how_it_ended() == "it ended with code 9"
    assert not await dead.exists()
    telling = ProgramRun(launcher, tmp_path, "toy-4")
    assert await played(telling, end="die", says="the store refused secret_key='s3cr3t'") is None
    assert await telling.how_it_ended() == "it ended with code 9: the store refused secret_key='***'"


async def test_one_that_takes_too_long_is_killed(launcher: LocalLauncher, tmp_path: Path) -> None:
    run = ProgramRun(launcher, tmp_path, "toy-1")
    await run.start(TOY, {"seconds": 300})
    with pytest.raises(Unavailable, match=r"ran longer than 0\.1 s"):
        await run.finish(0.1)
    assert not (await launcher.probe("toy-1")).held


async def test_what_the_listener_raises_ends_the_wait(launcher: LocalLauncher, tmp_path: Path) -> None:
    async def refuse(progress: Mapping[str, Any]) -> None:
        raise asyncio.InvalidStateError

    run = ProgramRun(launcher, tmp_path, "toy-1")
    await run.start(TOY, {"seconds": 300})
    with pytest.raises(asyncio.InvalidStateError):
        await run.finish(60, refuse)
    await run.discard()
    assert not (await launcher.probe("toy-1")).held
