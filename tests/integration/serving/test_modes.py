"""An adapter on the real engine, merged into its base and beside it; and streams that a drain lets end whole."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from modelry.serving.v1 import serving_pb2 as pb
from tests.integration.serving.test_merging import make_adapter
from tests.integration.serving.world import World, open_world
from tests.tiny_model import build_tiny_model

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]
ENGINE = {"cpus": 1, "max_model_length": 512}
STREAMS, TOKENS = 4, 400


async def test_an_adapter_is_merged_alone_and_attached_when_it_shares(tmp_path: Path) -> None:
    folder = await asyncio.to_thread(build_tiny_model, tmp_path / "model")
    adapter = await asyncio.to_thread(make_adapter, folder, tmp_path / "adapter", 0.05)
    async with open_world(tmp_path / "home") as world:
        base = await world.import_model("tiny", folder)
        version = await world.publish_adapter(adapter, base.id, "helpdesk")
        merged = await world.create(model="helpdesk", name="alone", engine=ENGINE)
        shared = await world.create(model="helpdesk", name="shares", accepts_adapters=True, engine=ENGINE)
        assert merged.effective_adapter_mode == pb.Deployment.MERGED and not merged.accepts_adapters
        assert shared.effective_adapter_mode == pb.Deployment.ATTACHED and shared.accepts_adapters
        for name in ("alone", "shares"):
            await world.in_state(name, pb.Deployment.READY)
            await world.answers(name)
        said = {name: await _said(world, name) for name in ("alone", "shares", version.fine_tuned_name)}
        assert said[version.fine_tuned_name] in (said["alone"], said["shares"])
        assert len(list((world.home / "cache" / "models").glob("merged-*/modelry.json"))) == 1
        (own,) = (await world.get("shares")).adapters
        assert own.ready and own.model_version_id == version.id
        await _streams_end_whole(world, "alone")


async def test_a_model_is_prepared_beside_replicas_that_hold_every_core(tmp_path: Path) -> None:
    """At default settings: preparation and merge have places of their own."""
    folder = await asyncio.to_thread(build_tiny_model, tmp_path / "model")
    other = await asyncio.to_thread(build_tiny_model, tmp_path / "other", seed=1)
    adapter = await asyncio.to_thread(make_adapter, folder, tmp_path / "adapter", 0.05)
    async with open_world(tmp_path / "home", settings="") as world:
        base = await world.import_model("tiny", folder)
        cores = len(world.launcher.capacity.cores)
        await world.create(model="tiny", name="full", replicas=cores, engine=ENGINE)
        await world.in_state("full", pb.Deployment.READY)
        assert (await world.launcher.usage()).cpus_held == cores
        await world.import_model("other", other)
        await world.publish_adapter(adapter, base.id, "helpdesk")
        await world.create(model="helpdesk", name="waits", engine=ENGINE)

        async def merged() -> bool:
            return bool(list((world.home / "cache" / "models").glob("merged-*/modelry.json")))

        await world.until(merged, 120)
        assert len(await world.replicas("full", pb.Replica.READY)) == cores


async def _said(world: World, model: str) -> str:
    status, body = await world.ask(model, 12, temperature=0)
    assert status == 200, body
    return str(body["choices"][0]["message"]["content"])


async def _streams_end_whole(world: World, name: str) -> None:
    """All of them run when the last replica is taken away."""
    begun = asyncio.Barrier(STREAMS + 1)
    streams = [asyncio.create_task(_stream(world, name, begun)) for _ in range(STREAMS)]
    await asyncio.wait_for(begun.wait(), 30)
    scaled = await world.call("ScaleDeployment", pb.ScaleDeploymentRequest(deployment=name, replicas=0))
    assert scaled.state == pb.Deployment.IDLE
    for lines in await asyncio.gather(*streams):
        assert lines[-1] == "data: [DONE]"
        assert [json.loads(line[6:]) for line in lines[:-1]][-1]["choices"][0]["finish_reason"] == "length"

    async def ended() -> bool:
        return all(one.state == pb.Replica.ENDED for one in await world.replicas(name))

    await world.until(ended, 60)


async def _stream(world: World, model: str, begun: asyncio.Barrier) -> list[str]:
    """The lines of one streamed chat of a known length; its first line is waited for by all."""
    messages = [{"role": "user", "content": "Hi"}]
    body = {"model": model, "messages": messages, "max_tokens": TOKENS, "ignore_eos": True, "stream": True}
    lines: list[str] = []
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {world.key}"}) as session,
        session.post(f"{world.http}/v1/chat/completions", json=body) as answer,
    ):
        assert answer.status == 200, await answer.text()
        async for raw in answer.content:
            if line := raw.decode().strip():
                lines.append(line)
                if len(lines) == 1:
                    await begun.wait()
    return lines
