"""Publishing, aliases, holds and deletion through gRPC, on real files and events."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from modelry.registry.v1 import internal_pb2
from modelry.registry.v1 import registry_pb2 as pb
from services.chassis.errors import NotFound, WrongState
from services.chassis.events import Event
from services.chassis.objects import StoreAccess
from services.clients.credentials import OpenedStore
from services.clients.fakes import FakeCredentials
from services.registry.domain import ModelVersion
from tests.integration.registry.world import OTHER, PROJECT, State, World

pytestmark = pytest.mark.integration


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """The files of an adapter."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder


def publication(base: ModelVersion, manifest: str, checkpoint: str = "ftckpt_1", **fields: Any) -> Any:
    """The request to publish a checkpoint as `helper`."""
    return internal_pb2.RegisterCheckpointRequest(
        model_name="helper",
        checkpoint_id=checkpoint,
        job_id="ftjob-0123456789",
        checkpoint_step=4,
        final=True,
        base_model_version_id=base.id,
        prefix=f"{PROJECT}/checkpoint",
        manifest_json=manifest,
        lora_rank=8,
        **fields,
    )


async def publish(world: World, base: ModelVersion, folder: Path, **fields: Any) -> pb.ModelVersion:
    manifest = await asyncio.to_thread(world.upload, folder, f"{PROJECT}/checkpoint")
    return await world.call("RegisterCheckpoint", publication(base, manifest, **fields))


async def set_alias(world: World, version: str) -> pb.Alias:
    return await world.call("SetAlias", pb.SetAliasRequest(model="helper", alias="live", version=version))


async def delete(world: World, model: str, version: str = "1") -> None:
    await world.call("DeleteModelVersion", pb.DeleteModelVersionRequest(model=model, version=version))


async def announce(world: World, event: Event) -> None:
    """An event of another service."""
    await world.host.bus.publish(event.subject, event.body().encode(), event.headers())


async def test_a_published_checkpoint_is_a_copy_that_outlives_its_job(world: World, adapter: Path) -> None:
    base = await world.add_base("own")
    version = await publish(world, base, adapter)
    assert (version.state, version.number, version.kind) == (State.READY, 1, pb.ModelVersion.ADAPTER)
    assert version.fine_tuned_name == f"ft:own:name-of-{PROJECT}:helper:23456789"
    assert await publish(world, base, adapter) == version
    await asyncio.to_thread(world.objects.delete_prefix, world.bucket, f"{PROJECT}/checkpoint/")
    resolved = await world.resolve("helper")
    assert (resolved.base.id, resolved.files.digest) == (base.id, version.digest)
    assert resolved.files.bucket == world.bucket
    assert world.stored(f"{resolved.files.prefix}/") == {"adapter_config.json", "adapter_model.safetensors"}
    graph = await world.call("GetLineage", pb.GetLineageRequest(model="helper", version="1"))
    assert (base.id, version.id, "base") in {(edge.source, edge.target, edge.relation) for edge in graph.edges}


async def test_an_alias_is_moved_and_a_reference_follows_it(world: World, adapter: Path) -> None:
    base = await world.add_base("own")
    first, second = [await publish(world, base, adapter, checkpoint=f"ftckpt_{number}") for number in (1, 2)]
    await set_alias(world, "1")
    assert (await world.resolve("helper@live")).version.id == first.id
    moved = await set_alias(world, "latest")
    assert [(one.model_version_id, one.set_by) for one in moved.history] == [(second.id, "key-1"), (first.id, "key-1")]
    assert (await world.resolve("helper@live")).version.id == second.id
    await world.call("DeleteAlias", pb.DeleteAliasRequest(model="helper", alias="live"))
    with pytest.raises(NotFound):
        await world.resolve("helper@live")


async def test_what_is_held_is_not_deleted_until_its_holder_ends(world: World, adapter: Path) -> None:
    version = await publish(world, await world.add_base("own"), adapter)
    await world.resolve("helper", "dep-1")
    await world.call("ConfirmModelHold", internal_pb2.ConfirmModelHoldRequest(holder="dep-1"))
    for model, holders in (("helper", "dep-1"), ("own", "dep-1,helper@1")):
        with pytest.raises(WrongState) as caught:
            await delete(world, model)
        assert (caught.value.reason, caught.value.metadata["holders"]) == ("IN_USE", holders)
    links = {"model_version": version.id}
    await announce(world, Event(PROJECT, "deployment", "dep-1", "deleted", "STOPPED", links=links))
    async with asyncio.timeout(20):
        while not await gone(world, "helper"):
            await asyncio.sleep(0.05)
        while world.stored(f"models/{PROJECT}/{version.id}/"):
            await asyncio.sleep(0.05)
    await delete(world, "own")


async def gone(world: World, model: str) -> bool:
    """Delete a version, if nothing holds it any more."""
    try:
        await delete(world, model)
    except WrongState:
        return False
    return True


async def test_a_released_hold_lets_a_version_go(world: World, adapter: Path) -> None:
    await publish(world, await world.add_base("own"), adapter)
    await world.resolve("helper", "ftjob-1")
    release = internal_pb2.ReleaseModelHoldRequest(holder="ftjob-1")
    await world.call("ReleaseModelHold", release, OTHER)
    with pytest.raises(WrongState):
        await delete(world, "helper")
    await world.call("ReleaseModelHold", release)
    await delete(world, "helper")
    with pytest.raises(NotFound):
        await world.resolve("helper")


class DeletingCredentials(FakeCredentials):
    """Access that takes so long to open a store that the version is deleted meanwhile."""

    def __init__(self, access: StoreAccess, bucket: str, world: World) -> None:
        super().__init__(access, bucket)
        self._world = world
        self.deleted = ""

    async def resolve(self, project: str, credential: str, bucket: str) -> OpenedStore:
        self.deleted = (await self._world.get("helper")).id
        await delete(self._world, "helper")
        return await super().resolve(project, credential, bucket)


async def test_what_is_published_while_it_is_deleted_leaves_no_files(world: World, adapter: Path) -> None:
    base = await world.add_base("own")
    slow = DeletingCredentials(world.context.system, world.bucket, world)
    slow.projects = world.credentials.projects
    world.context.credentials = slow
    with pytest.raises(NotFound):
        await publish(world, base, adapter)
    async with asyncio.timeout(20):
        while await world.context.garbage.tick() or world.stored(f"models/{PROJECT}/{slow.deleted}/"):
            await asyncio.sleep(0.05)
