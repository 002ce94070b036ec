"""Watches end with their key, and are so many of a key and in all, over both doors."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from modelry.training.v1 import training_pb2 as pb
from modelry.training.v1 import training_pb2_grpc
from tests.integration.gateway.test_native import Training, scripted
from tests.integration.gateway.world import AUTHORIZATION, PROJECT, SECRET, Edge

pytestmark = pytest.mark.integration

WITHIN = 10
"""Seconds in which whatever should happen has happened on a busy machine."""
WATCH = "/api/v1/jobs/ftjob-1:watch"


@asynccontextmanager
async def doors(folder: Path, **settings: Any) -> AsyncIterator[tuple[Edge, Training, dict[str, Callable[[], Any]]]]:
    """The edge with both doors, and for each a function that begins a watch and tells how it stands."""
    async with scripted(folder, **settings) as (gateway, training):
        server, port = await gateway.open_grpc()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = training_pb2_grpc.TrainingServiceStub(channel)

            async def http() -> Any:
                response = await gateway.client.get(WATCH, headers=AUTHORIZATION)
                if response.status == 200:
                    await response.content.readuntil(b'"RUNNING"')
                return response

            async def over_grpc() -> Any:
                call: Any = stub.WatchJob(pb.WatchJobRequest(job="ftjob-1"), metadata=tuple(AUTHORIZATION.items()))
                with suppress(grpc.aio.AioRpcError):
                    for _ in range(2):
                        await call.read()
                return call

            try:
                yield gateway, training, {"http": http, "grpc": over_grpc}
            finally:
                await server.stop(None)


def change_key(gateway: Edge, version: int, **changes: Any) -> None:
    """What access says of the key from now on."""
    key = {"key_id": "key-1", "project": PROJECT, "role": "DEVELOPER", "state": "ACTIVE", "version": version}
    gateway.keys.apply(hashlib.sha256(SECRET.encode()).hexdigest(), {**key, **changes})


async def ended(watch: Any) -> tuple[str, str]:
    """Wait for the end of a watch, or of the try to begin one: its code, and its words."""
    async with asyncio.timeout(WITHIN):
        if isinstance(watch, grpc.aio.Call):
            with suppress(grpc.aio.AioRpcError):
                while await watch.read() is not grpc.aio.EOF:
                    pass
            return (await watch.code()).name, await watch.details()
        text = await watch.text()
        error = json.loads(text.rpartition("event: error\ndata: ")[2])["error"]
        return error["status"], error["message"]


DOORS = pytest.mark.parametrize("door", ["http", "grpc"])


@DOORS
@pytest.mark.parametrize("change", [{"state": "REVOKED"}, {"expire_time": 1.0}, {"addresses": ["10.0.0.0/8"]}])
async def test_a_watch_ends_when_its_key_may_watch_no_more(tmp_path: Path, door: str, change: dict[str, Any]) -> None:
    async with doors(tmp_path) as (gateway, training, begin):
        watch = await begin[door]()
        change_key(gateway, 2, title="another")  # a change that takes nothing away
        assert len(gateway.watches) == 1
        change_key(gateway, 3, **change)
        code, _ = await ended(watch)
        assert code == ("PERMISSION_DENIED" if "addresses" in change else "UNAUTHENTICATED")
        async with asyncio.timeout(WITHIN):
            await training.left.wait()
        assert len(gateway.watches) == 0


@DOORS
async def test_a_watch_ends_when_its_key_expires(tmp_path: Path, door: str) -> None:
    async with doors(tmp_path) as (gateway, _, begin):
        change_key(gateway, 2, expire_time=time.time() + 1)
        watch = await begin[door]()
        code, words = await ended(watch)
        assert code == "UNAUTHENTICATED" and "expired" in words
        assert len(gateway.watches) == 0


@DOORS
@pytest.mark.parametrize("most", ["most_watches", "most_watches_per_key"])
async def test_so_many_watches_are_open_and_no_more(tmp_path: Path, door: str, most: str) -> None:
    async with doors(tmp_path, **{most: 2}) as (gateway, training, begin):
        open_ones = [await begin["http"](), await begin["grpc"]()]
        code, words = await ended(await begin[door]())
        assert code == "RESOURCE_EXHAUSTED" and "watches" in words
        training.more.set()
        for one in open_ones:
            await (one.text() if one is open_ones[0] else one.code())
        assert len(gateway.watches) == 0
        await begin[door]()
