"""Imports while parts of the installation die and come back."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.local.testing import RealObjects
from modelry.dataset.v1 import dataset_pb2 as pb
from services.chassis.launch import LaunchSpec, LocalLauncher
from tests.integration.dataset.world import World

pytestmark = pytest.mark.integration

ROWS = [{"instruction": f"Question {number}?", "output": f"Answer {number}."} for number in range(240_000)]
States = pb.DatasetVersion
PROGRAM_VARIABLES = ("MODELRY_CPUS", "MODELRY_LAUNCH")


@pytest.fixture
def s3_server(tmp_path: Path) -> Iterator[RealObjects]:
    """A store of this test's own: it is stopped."""
    with RealObjects(tmp_path / "s3") as server:
        yield server


async def until_reading(world: World, version: pb.DatasetVersion) -> None:
    request = pb.WatchDatasetVersionRequest(dataset=version.dataset_id, version=version.id)
    async for change in world.stub.WatchDatasetVersion(request, metadata=world.service.metadata()):
        assert change.state == States.IMPORTING
        if change.row_count:
            return


async def program(world: World) -> psutil.Process:
    """The import program that is running now."""
    launcher = LocalLauncher(world.service.home)
    deadline = time.monotonic() + 20
    while True:
        for probe in await launcher.list():
            if probe.pid is not None:
                return psutil.Process(probe.pid)
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_a_killed_import_program_is_started_again(world: World) -> None:
    version = await world.create("again", world.put("big.jsonl", ROWS))
    await until_reading(world, version)
    (await program(world)).kill()
    done = await world.settled(version)
    assert (done.state, done.row_count, done.version) == (States.PUBLISHED, len(ROWS), 3)


async def test_a_program_that_always_dies_fails_the_version_as_the_systems_fault(world: World) -> None:
    version = await world.create("dies", world.put("big.jsonl", ROWS))
    for _ in range(3):
        victim = await program(world)
        victim.kill()
        with pytest.raises(psutil.NoSuchProcess):
            while victim.status() != psutil.STATUS_DEAD:
                await asyncio.sleep(0.02)
    done = await world.settled(version)
    assert (done.state, done.failure.reason, done.failure.kind) == (States.FAILED, "IMPORT_CRASHED", 2)
    assert "3 times in a row" in done.failure.message


async def test_a_killed_services_import_is_done_again_and_its_program_ended(world: World) -> None:
    version = await world.create("killed", world.put("big.jsonl", ROWS))
    await until_reading(world, version)
    left = await program(world)
    world.service.kill()
    assert left.is_running()
    await world.service.start()
    done = await world.settled(version)
    assert not left.is_running()
    assert (done.state, done.row_count, done.version) == (States.PUBLISHED, len(ROWS), 3)
    prefixes = {
        entry.key.rsplit("/", 1)[0]
        for entry in world.store.list(world.service.environment["MODELRY_OBJECTS_BUCKET"], "")
    }
    assert sum(version.id in prefix for prefix in prefixes) == 1, "what the killed attempt wrote is removed"


async def test_the_environment_of_an_import_holds_no_secret(world: World) -> None:
    world.service.stop()
    world.service.environment |= {"HF_TOKEN": "hub-secret", "DATABASE_PASSWORD": "other-secret"}
    await world.service.start()
    version = await world.create("clean", world.put("big.jsonl", ROWS))
    await until_reading(world, version)
    running = await program(world)
    environment = running.environ()
    command = running.cmdline()
    done = await world.settled(version)
    assert done.state == States.PUBLISHED
    assert not [name for name in environment if name.startswith("MODELRY_") and name not in PROGRAM_VARIABLES]
    secrets = {
        value
        for name, value in world.service.environment.items()
        if name.endswith(("_SECRET", "_PASSWORD", "_KEY", "_TOKEN"))
    }
    assert len(secrets) >= 5
    assert secrets.isdisjoint([*environment.values(), *command])
    assert not list((world.service.home / "work").glob("import-*")), "nor is a spec left, which has keys of stores"


async def test_an_import_runs_while_replicas_hold_every_core(world: World) -> None:
    launcher = LocalLauncher(world.service.home)
    usage = await launcher.usage()
    sleeper = [sys.executable, "-S", "-c", "import time; time.sleep(300)"]
    for number in range(2):  # at default settings: two replicas that take all cores and all memory
        cpus = usage.cpus // 2 + (usage.cpus % 2 if number else 0)
        folder = world.service.home / "work" / f"rep-{number}"
        spec = LaunchSpec(f"rep-{number}", sleeper, {}, folder, max(1, cpus), usage.memory_mb // 2)
        await launcher.start(spec)
    assert (await launcher.usage()).cpus_held >= usage.cpus
    try:
        done = await world.imported("beside", world.put("small.jsonl", ROWS[:10]))
        assert done.state == States.PUBLISHED
    finally:
        for number in range(2):
            await launcher.kill(f"rep-{number}")


async def test_a_store_that_goes_and_comes_back_costs_no_row(world: World, s3_server: RealObjects) -> None:
    version = await world.create("store", world.put("big.jsonl", ROWS))
    await until_reading(world, version)
    s3_server.kill()
    await asyncio.sleep(1)
    s3_server.start()
    done = await world.settled(version, 120)
    assert (done.state, done.row_count, done.bad_row_count) == (States.PUBLISHED, len(ROWS), 0)


async def test_a_stopped_service_lets_its_import_go_and_the_next_one_does_it(world: World) -> None:
    version = await world.create("stopped", world.put("big.jsonl", ROWS))
    await until_reading(world, version)
    victim = await program(world)
    world.service.stop()
    assert not victim.is_running()
    await world.service.start()
    done = await world.settled(version)
    assert (done.state, done.row_count) == (States.PUBLISHED, len(ROWS))


async def test_without_nats_imports_go_on_and_their_events_wait(world: World) -> None:
    world.service.stop()
    world.service.environment["MODELRY_NATS_URL"] = "nats://127.0.0.1:9"
    await world.service.start()
    done = await world.imported("quiet", world.put("small.jsonl", ROWS[:10]))
    assert done.state == States.PUBLISHED


async def test_on_postgresql_a_killed_service_does_the_import_again_after_its_lease(
    world: World, postgres_url: str
) -> None:
    world.service.stop()
    world.service.environment |= {"MODELRY_DATABASE_URL": postgres_url, "MODELRY_LEASE_SECONDS": "1"}
    await world.service.start()
    version = await world.create("elsewhere", world.put("big.jsonl", ROWS), request_id="pg-1")
    await until_reading(world, version)
    world.service.kill()
    await world.service.start()
    done = await world.settled(version)
    assert (done.state, done.row_count, done.version) == (States.PUBLISHED, len(ROWS), 3)
    made = await asyncio.gather(*(world.create("many", "big.jsonl", request_id="pg-2") for _ in range(20)))
    assert len({item.id for item in made}) == 1
    await world.call("DeleteDatasetVersion", pb.DeleteDatasetVersionRequest(dataset="many", version="1"))
