"""Registry and data sets: what a reference means, and who holds it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from services.chassis.errors import NotFound, WrongState
from services.clients.registry import Publication
from tests.contract.clients.world import OTHER, PROJECT, World

pytestmark = [pytest.mark.contract, pytest.mark.asyncio(loop_scope="session")]


async def test_a_model_is_found_by_id_name_and_number(world: World, name: str) -> None:
    version_id = await world.add_model(name)
    for reference in (version_id, name, f"{name}@1"):
        found = await world.registry.resolve(PROJECT, reference)
        assert (found.version_id, found.model_name, found.number, found.parameter_count) == (version_id, name, 1, 5)
    assert (found.state, found.usable_state, found.adapter, found.full) == ("READY", "READY", False, found)
    assert found.files is not None and found.files.prefix == f"models/{name}" and found.digest == "sha256:1"
    assert len(json.loads(found.files.manifest_json)["files"]) == 2


async def test_an_adapter_comes_with_its_base(world: World, name: str) -> None:
    base_id = await world.add_model(f"{name}-base")
    adapter_id = await world.add_model(name, base_id)
    found = await world.registry.resolve(PROJECT, adapter_id, "dep-1")
    assert found.adapter and found.full.version_id == base_id and found.full.files is not None
    for held in (adapter_id, base_id):
        assert await world.holders("registry", held) == ["dep-1"], "a hold of an adapter holds its base"
    assert await world.registry.adapters_of(PROJECT, base_id) == [adapter_id]
    assert await world.registry.adapters_of(OTHER, base_id) == []


async def test_another_projects_things_do_not_exist(world: World, name: str) -> None:
    await world.add_model(name)
    await world.add_dataset(name)
    for project, reference in ((OTHER, name), (PROJECT, f"{name}-none")):
        with pytest.raises(NotFound):
            await world.registry.resolve(project, reference)
        with pytest.raises(NotFound):
            await world.datasets.resolve(project, reference)


async def test_a_data_set_is_found_by_id_name_and_number(world: World, name: str) -> None:
    version_id = await world.add_dataset(name)
    for reference in (version_id, name, f"{name}@1"):
        found = await world.datasets.resolve(PROJECT, reference)
        assert (found.version_id, found.label, found.row_count, found.token_count) == (version_id, f"{name}@1", 7, 70)
    assert (found.file, found.files.prefix, found.evaluation_pairs) == ("data.parquet", f"datasets/{name}", False)


async def test_a_version_that_is_not_published_is_refused(world: World, name: str) -> None:
    version_id = await world.add_dataset(name, published=False)
    with pytest.raises(WrongState):
        await world.datasets.resolve(PROJECT, version_id, "ftjob-1")
    assert await world.holders("dataset", version_id) == []


@pytest.mark.parametrize("service", ["registry", "dataset"])
async def test_holds_are_taken_confirmed_and_released_any_number_of_times(
    world: World, name: str, service: str
) -> None:
    client = world.registry if service == "registry" else world.datasets
    version_id = await (world.add_model(name) if service == "registry" else world.add_dataset(name))
    await client.resolve(PROJECT, name)
    assert await world.holders(service, version_id) == [], "a look holds nothing"
    for holder in (f"{name}-1", f"{name}-2", f"{name}-1"):
        await client.resolve(PROJECT, name, holder)
        await client.confirm_hold(PROJECT, holder)
    assert await world.holders(service, version_id) == [f"{name}-1", f"{name}-2"]
    await client.release_hold(OTHER, f"{name}-1")
    assert len(await world.holders(service, version_id)) == 2, "another project lets go of nothing"
    for _ in range(2):
        await client.release_hold(PROJECT, f"{name}-1")
    assert await world.holders(service, version_id) == [f"{name}-2"]
    await client.confirm_hold(PROJECT, "nobody")
    await client.release_hold(PROJECT, "nobody")


async def test_a_checkpoint_is_published_once(world: World, name: str) -> None:
    base_id = await world.add_model(f"{name}-base")
    files = await world.upload_adapter(f"jobs/{name}")
    wish = Publication(
        model_name=f"{name}-tuned",
        checkpoint_id=f"ftckpt_{name}",
        job_id=f"ftjob-{name}",
        step=10,
        final=True,
        base_model_version_id=base_id,
        dataset_version_ids=("dsv-1",),
        files=files,
        lora_rank=8,
        chat_fingerprint="",
        metrics={"loss": 0.5},
        suffix="help",
        request_id=name,
    )
    made = await world.registry.publish(PROJECT, wish)
    assert (made.model_name, made.checkpoint_id, made.base_model_version_id) == (
        wish.model_name,
        wish.checkpoint_id,
        base_id,
    )
    assert (await world.registry.publish(PROJECT, wish)).id == made.id, "the same wish is the same version"
    again = await world.registry.publish(PROJECT, replace(wish, request_id=f"{name}-2"))
    assert again.id != made.id
