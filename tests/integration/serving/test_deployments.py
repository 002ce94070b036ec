"""Deployments without any replica: everything that needs no engine, on the real registry, access and gateway."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from modelry.common.v1 import common_pb2
from modelry.serving.v1 import internal_pb2, internal_pb2_grpc
from modelry.serving.v1 import serving_pb2 as pb
from services.chassis.auth import Role
from services.chassis.errors import AlreadyExists, Conflict, Denied, Invalid, NotFound, WrongState
from tests.integration.serving.world import World, open_world
from tests.tiny_model import build_tiny_model

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model."""
    return build_tiny_model(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture
async def world(tmp_path: Path, base: Path) -> AsyncIterator[World]:
    """A home with the tiny model in it."""
    async with open_world(tmp_path / "home") as world:
        await world.import_model("tiny", base)
        yield world


async def test_the_surface_without_replicas(world: World) -> None:
    made = await world.create(model="tiny", replicas=0, title="Idle", request_id="r1")
    assert (made.name, made.state, made.accepts_adapters) == ("tiny", pb.Deployment.IDLE, True)
    assert (made.engine.max_model_length, made.engine.kv_cache_gib) == (1024, 1.0)
    await refusals(world)
    await lists_and_updates(world, made)
    await an_unready_deployment_is_said_so(world, made)
    await deletion(world, made)


async def refusals(world: World) -> None:
    with pytest.raises(AlreadyExists):
        await world.create(model="tiny")
    with pytest.raises(AlreadyExists):
        await world.create(model="tiny", replicas=0, title="Other", request_id="r1")
    with pytest.raises(NotFound):
        await world.create(model="no-such-model")
    with pytest.raises(Denied):
        await world.create(model="tiny", name="shared", billing=pb.Deployment.SHARED)
    with pytest.raises(WrongState) as stale:
        await world.create(model="tiny", name="quoted", quote_id="quote-unknown")
    assert stale.value.reason == "QUOTE_STALE"
    for field, fields in {
        "deployment.name": {"name": "Not A Name"},
        "deployment.adapter_mode": {"adapter_mode": pb.Deployment.MERGED},
        "deployment.engine.max_model_length": {"engine": pb.EngineOptions(max_model_length=4096)},
        "deployment.engine.cpus": {"engine": pb.EngineOptions(cpus=1000)},
        "deployment.shared_with": {"shared_with": ["default"]},
        "deployment.replicas": {"replicas": 65},
    }.items():
        with pytest.raises(Invalid) as caught:
            await world.create(model="tiny", **{"name": "other", **fields})
        assert caught.value.field == field


async def lists_and_updates(world: World, made: pb.Deployment) -> None:
    found = await world.call("ListDeployments", pb.ListDeploymentsRequest(filter="state = IDLE"))
    assert [one.id for one in found.deployments] == [made.id]
    request = pb.UpdateDeploymentRequest(deployment=pb.Deployment(id=made.id, title="New", etag=made.etag))
    changed = await world.call("UpdateDeployment", request)
    assert changed.title == "New" and changed.version == made.version + 1
    with pytest.raises(Conflict):
        await world.call("UpdateDeployment", request)
    stub = internal_pb2_grpc.ServingInternalServiceStub(world.channels["serving"])
    asked = internal_pb2.ResolveDeploymentRequest(deployment="tiny")
    resolved = await world.call("ResolveDeployment", asked, stub, "service", Role.OWNER)
    assert (resolved.deployment_id, resolved.model_version_id) == (made.id, made.model_version_id)


async def an_unready_deployment_is_said_so(world: World, made: pb.Deployment) -> None:
    async def known() -> bool:
        return (await world.ask("tiny"))[0] == 503

    await world.until(known, 15)
    with pytest.raises(WrongState):
        await world.call("ClaimDeploymentKey", pb.ClaimDeploymentKeyRequest(deployment=made.id))
    same = await world.call("ScaleDeployment", pb.ScaleDeploymentRequest(deployment="tiny", replicas=0))
    assert same.replicas == 0


async def deletion(world: World, made: pb.Deployment) -> None:
    begin = time.monotonic()
    await world.call("DeleteDeployment", pb.DeleteDeploymentRequest(deployment="tiny"))

    async def gone() -> bool:
        try:
            await world.get(made.id)
        except NotFound:
            return True
        return False

    await world.until(gone, 15)
    assert time.monotonic() - begin < 10

    async def unknown() -> bool:
        return (await world.ask("tiny"))[0] == 404

    await world.until(unknown, 10)


async def test_a_quote_says_mode_and_memory_and_holds_for_its_spec_only(world: World) -> None:
    wish = pb.Deployment(model="tiny", name="quoted", replicas=0)
    quote = await world.call("QuoteDeployment", pb.CreateDeploymentRequest(deployment=wish))
    words = "\n".join(quote.notes)
    for term in ("weights", "keys and values", "activations", "slots for 4 adapters of rank 64", "processes", "in all"):
        assert f"Memory of a replica, {term}" in words
    with pytest.raises(WrongState) as caught:
        await world.create(model="tiny", name="quoted", replicas=1, quote_id=quote.id)
    assert caught.value.reason == "QUOTE_STALE"
    made = await world.create(
        model="tiny", name="quoted", replicas=0, quote_id=quote.id, title="T", max_cost=common_pb2.Money(units=5)
    )
    assert (made.quote_id, made.max_cost.units) == (quote.id, 5)


async def test_what_never_fits_is_failing_and_says_why(world: World) -> None:
    await world.create(model="tiny", name="huge", engine=pb.EngineOptions(kv_cache_gib=1000))
    found = await world.in_state("huge", pb.Deployment.FAILING, 30)
    assert found.failure.reason == "NEVER_FITS" and "MiB of memory" in found.failure.message
    assert not found.key_claimable
    await world.call("ScaleDeployment", pb.ScaleDeploymentRequest(deployment="huge", replicas=0))
    idle = await world.in_state("huge", pb.Deployment.IDLE, 10)
    assert not idle.HasField("failure")
