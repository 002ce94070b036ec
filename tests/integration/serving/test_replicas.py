"""Real engines on a tiny model, behind the real gateway: started, killed, found again, given adapters, drained."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from modelry.serving.v1 import serving_pb2 as pb
from services.chassis.errors import AlreadyExists, NotFound, WrongState
from tests.integration.serving.world import World, open_world
from tests.tiny_model import build_tiny_model

pytestmark = [pytest.mark.integration, pytest.mark.timeout(580)]


def make_adapter(base: Path, folder: Path, seed: int) -> Path:
    """A LoRA adapter with random weights that are large enough to be heard."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tuned = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    torch.manual_seed(seed)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.5)
    tuned.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base and two adapters of it."""
    root = tmp_path_factory.mktemp("models")
    base = build_tiny_model(root / "base")
    return {"base": base, "one": make_adapter(base, root / "one", 1), "two": make_adapter(base, root / "two", 2)}


async def test_the_life_of_a_deployment(tmp_path: Path, folders: dict[str, Path]) -> None:
    async with open_world(tmp_path / "home") as world:
        base = await world.import_model("tiny", folders["base"])
        await quoted(world)
        made = await world.create(model="tiny", replicas=2, request_id="first", engine={"cpus": 1})
        again = await world.create(model="tiny", replicas=2, request_id="first", engine={"cpus": 1})
        assert (made.id, made.name, made.key_claimable) == (again.id, "tiny", False)
        with pytest.raises(WrongState):
            await world.call("ClaimDeploymentKey", pb.ClaimDeploymentKeyRequest(deployment="tiny"))
        begin = time.monotonic()
        ready = await world.in_state("tiny", pb.Deployment.READY)
        print(f"two replicas ready after {time.monotonic() - begin:.1f} s")
        assert ready.ready_replicas == 2 and ready.key_claimable
        await world.answers("tiny")
        await key_is_claimed_once(world)
        await a_killed_replica_is_replaced(world)
        await an_adapter_attaches_within_seconds(world, folders["one"], base.id)
        await a_restarted_service_finds_its_replicas(world)
        await scaling_down_drains(world)
        await deleted(world)


async def quoted(world: World) -> None:
    wish = pb.Deployment(model="tiny", replicas=2, engine={"cpus": 1})
    quote = await world.call("QuoteDeployment", pb.CreateDeploymentRequest(deployment=wish))
    assert quote.items[0].quantity_high == 2
    assert any(note.startswith("Memory of a replica, weights") for note in quote.notes)


async def key_is_claimed_once(world: World) -> None:
    claim = await world.call("ClaimDeploymentKey", pb.ClaimDeploymentKeyRequest(deployment="tiny", request_id="k"))
    assert claim.secret.startswith("mk-") and claim.base_url.startswith("http://")
    replayed = await world.call("ClaimDeploymentKey", pb.ClaimDeploymentKeyRequest(deployment="tiny", request_id="k"))
    assert (replayed.key_id, replayed.secret) == (claim.key_id, "")
    with pytest.raises(AlreadyExists) as caught:
        await world.call("ClaimDeploymentKey", pb.ClaimDeploymentKeyRequest(deployment="tiny"))
    assert caught.value.reason == "ALREADY_CLAIMED"


async def a_killed_replica_is_replaced(world: World) -> None:
    victim, other = await world.replicas("tiny", pb.Replica.READY)
    os.kill(victim.pid, signal.SIGKILL)
    begin = time.monotonic()

    async def noticed() -> bool:
        return (await world.get("tiny")).state == pb.Deployment.DEGRADED

    await world.until(noticed, 30)
    print(f"the end of a replica was noticed after {time.monotonic() - begin:.1f} s")
    assert (await world.ask("tiny"))[0] == 200, "the other replica goes on"
    await world.in_state("tiny", pb.Deployment.READY)
    print(f"it was replaced after {time.monotonic() - begin:.1f} s")
    now = {one.id: one for one in await world.replicas("tiny", pb.Replica.READY)}
    assert other.id in now and victim.id not in now
    (new,) = [one for one in now.values() if one.id != other.id]
    assert new.restart_count == 1
    (failed,) = await world.replicas("tiny", pb.Replica.FAILED)
    assert "ended by itself" in failed.cause


async def an_adapter_attaches_within_seconds(world: World, folder: Path, base_id: str) -> None:
    version = await world.publish_adapter(folder, base_id, "helpdesk")
    begin = time.monotonic()
    body = await world.answers(version.fine_tuned_name, 10)
    seconds = time.monotonic() - begin
    print(f"the adapter answered {seconds:.2f} s after it was published")
    assert seconds < 5
    (adapter,) = (await world.get("tiny")).adapters
    assert (adapter.fine_tuned_name, adapter.ready) == (version.fine_tuned_name, True)
    plain = (await world.ask("tiny", 12, temperature=0))[1]["choices"][0]["message"]["content"]
    tuned = (await world.ask(version.fine_tuned_name, 12, temperature=0))[1]["choices"][0]["message"]["content"]
    assert body["choices"] and plain != tuned, "the adapter changes what is said"


async def a_restarted_service_finds_its_replicas(world: World) -> None:
    before = {one.id: one.pid for one in await world.replicas("tiny", pb.Replica.READY)}
    version = (await world.get("tiny")).adapters[0].fine_tuned_name
    world.kill_program("serving")
    begin = time.monotonic()
    assert (await world.ask("tiny"))[0] == 200, "inference does not need serving"

    async def back() -> Any:
        return await world.get("tiny")

    await world.until(back, 30)
    print(f"serving was back after {time.monotonic() - begin:.1f} s")
    await asyncio.sleep(3)  # several looks of the new process: none of them may disturb what runs
    after = {one.id: one.pid for one in await world.replicas("tiny", pb.Replica.READY)}
    found = await world.get("tiny")
    assert (before, found.state, found.adapters[0].ready) == (after, pb.Deployment.READY, True)
    assert (await world.ask(version))[0] == 200


async def scaling_down_drains(world: World) -> None:
    kept_asking = True
    codes: list[int] = []

    async def ask_on() -> None:
        while kept_asking:
            codes.append((await world.ask("tiny", 64))[0])

    askers = [asyncio.create_task(ask_on()) for _ in range(4)]
    request = pb.ScaleDeploymentRequest(deployment="tiny", replicas=1)
    await world.call("ScaleDeployment", request)

    async def alone() -> bool:
        living = [one for one in await world.replicas("tiny") if one.state < pb.Replica.ENDED]
        return len(living) == 1

    begin = time.monotonic()
    await world.until(alone, 60)
    print(f"drained after {time.monotonic() - begin:.1f} s, {len(codes)} requests meanwhile")
    kept_asking = False
    await asyncio.gather(*askers)
    assert set(codes) == {200}, "no request is lost"
    assert (await world.get("tiny")).state == pb.Deployment.READY


async def deleted(world: World) -> None:
    last: list[int] = []

    async def watch() -> None:
        stream = world.serving.WatchDeployment(pb.WatchDeploymentRequest(deployment="tiny"), metadata=world.metadata())
        async for one in stream:
            last.append(one.state)

    watching = asyncio.create_task(watch())
    await world.call("DeleteDeployment", pb.DeleteDeploymentRequest(deployment="tiny"))
    await asyncio.wait_for(watching, 60)
    assert last[-1] == pb.Deployment.DELETED
    with pytest.raises(NotFound):
        await world.get("tiny")

    async def unknown() -> bool:
        return (await world.ask("tiny"))[0] == 404

    await world.until(unknown, 10)  # the gateway hears of it a moment later
    usage = await world.launcher.usage()
    assert usage.cpus_held == 0, "nothing runs on"
