"""Whose address counts at both doors, and what one caller of the gRPC door may hold."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from gateway.connections import Bounds
from modelry.api_methods import SERVICES
from modelry.dataset.v1 import dataset_pb2
from modelry.training.v1 import training_pb2 as pb
from modelry.training.v1 import training_pb2_grpc
from tests.integration.gateway.test_lost_answers import services
from tests.integration.gateway.test_native import Training, scripted
from tests.integration.gateway.world import AUTHORIZATION, PROJECT, SECRET, TOKEN_SECRET, Edge, edge
from tests.stack import free_port

pytestmark = pytest.mark.integration

WITHIN = 10
"""Seconds in which whatever should happen has happened on a busy machine."""
KEY = tuple(AUTHORIZATION.items())
SHORT = Bounds(body_seconds=0.4, write_seconds=0.4, look_seconds=0.05)


def limit_key(gateway: Edge, *addresses: str) -> None:
    """The key may be used from these addresses only."""
    key = {"key_id": "key-1", "project": PROJECT, "role": "DEVELOPER", "state": "ACTIVE", "version": 2}
    gateway.keys.apply(hashlib.sha256(SECRET.encode()).hexdigest(), {**key, "addresses": addresses})


@asynccontextmanager
async def called(target: str) -> AsyncIterator[Any]:
    """The stub of a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        yield training_pb2_grpc.TrainingServiceStub(channel)


@asynccontextmanager
async def doors(folder: Path, listen: str = "127.0.0.1", **settings: Any) -> AsyncIterator[tuple[Edge, Training, int]]:
    """Both doors. Yields also the port of gRPC."""
    async with scripted(folder, **settings) as (gateway, training):
        server, port = await gateway.open_grpc(listen=f"{listen}:0")
        try:
            yield gateway, training, port
        finally:
            await server.stop(None)


async def http_status(gateway: Edge, **headers: str) -> int:
    """What a call of a job is answered with."""
    async with gateway.client.get("/api/v1/jobs/ftjob-1", headers={**AUTHORIZATION, **headers}) as response:
        return response.status


async def grpc_code(target: str, *metadata: tuple[str, str]) -> str:
    """What a call of a job is answered with."""
    async with called(target) as stub:
        call = stub.GetJob(pb.GetJobRequest(job="ftjob-1"), metadata=(*KEY, *metadata))
        return str((await call.code()).name)


async def test_a_peer_of_ipv6_is_read_at_both_doors(tmp_path: Path) -> None:
    async with doors(tmp_path, "[::1]", host="::1") as (gateway, _, port):
        limit_key(gateway, "::1/128")
        assert (await http_status(gateway), await grpc_code(f"ipv6:[::1]:{port}")) == (200, "OK")
    async with doors(tmp_path, "[::1]", host="::1") as (gateway, _, port):
        limit_key(gateway, "2001:db8::/32", "127.0.0.0/8")
        assert (await http_status(gateway), await grpc_code(f"ipv6:[::1]:{port}")) == (403, "PERMISSION_DENIED")


async def test_a_peer_of_ipv4_at_a_door_of_ipv6_is_one_of_ipv4(tmp_path: Path) -> None:
    async with doors(tmp_path, "[::]") as (gateway, _, port):
        limit_key(gateway, "127.0.0.0/8")
        assert await grpc_code(f"ipv4:127.0.0.1:{port}") == "OK"


@pytest.mark.parametrize(("proxies", "counts"), [("127.0.0.1", True), ("10.0.0.0/8", False), ("", False)])
async def test_what_a_trusted_proxy_forwards_counts_and_nobody_elses(
    tmp_path: Path, proxies: str, counts: bool
) -> None:
    async with doors(tmp_path, trusted_proxies=proxies) as (gateway, _, port):
        limit_key(gateway, "198.51.100.0/24")
        target = f"127.0.0.1:{port}"
        for forwarded, allowed in (("203.0.113.9, 198.51.100.1", True), ("198.51.100.1, 203.0.113.9", False)):
            status = await http_status(gateway, **{"X-Forwarded-For": forwarded})
            code = await grpc_code(target, ("x-forwarded-for", forwarded))
            assert (status, code) == ((200, "OK") if allowed and counts else (403, "PERMISSION_DENIED"))
        if counts:
            assert await http_status(gateway, **{"X-Forwarded-For": "nobody"}) == 400
            assert await grpc_code(target, ("x-forwarded-for", "nobody")) == "INVALID_ARGUMENT"


async def test_a_caller_behind_a_proxy_holds_so_many_places_and_no_more(tmp_path: Path) -> None:
    async with doors(tmp_path, trusted_proxies="127.0.0.0/8", most_connections_per_address=1) as (
        gateway,
        training,
        port,
    ):
        mine, other = {"X-Forwarded-For": "198.51.100.1"}, {"X-Forwarded-For": "198.51.100.2"}
        target = f"127.0.0.1:{port}"
        path = "/api/v1/jobs/ftjob-1:watch"
        async with gateway.client.get(path, headers={**AUTHORIZATION, **mine}) as watch:
            assert watch.status == 200
            assert await http_status(gateway, **mine) == 429
            assert await grpc_code(target, ("x-forwarded-for", "198.51.100.1")) == "RESOURCE_EXHAUSTED"
            assert await http_status(gateway, **other) == 200
            training.more.set()
            await watch.read()
        assert await http_status(gateway, **mine) == 200


async def test_connections_to_the_grpc_door_are_counted_by_address(tmp_path: Path) -> None:
    async with doors(tmp_path, most_connections_per_address=2) as (_, _, port):
        target = f"127.0.0.1:{port}"
        async with called(target) as stub:
            watches = [stub.WatchJob(pb.WatchJobRequest(job="ftjob-1"), metadata=KEY) for _ in range(5)]
            for watch in watches:
                await watch.read()  # on one connection
            async with called(target) as second:
                other = second.WatchJob(pb.WatchJobRequest(job="ftjob-1"), metadata=KEY)
                await other.read()
                assert await grpc_code(target) == "RESOURCE_EXHAUSTED"
            async with asyncio.timeout(WITHIN):
                while await grpc_code(target) != "OK":  # the second one has gone
                    pass


async def test_connections_to_the_grpc_door_are_counted_in_all(tmp_path: Path) -> None:
    async with doors(tmp_path, most_connections=1) as (_, _, port):
        target = f"127.0.0.1:{port}"
        async with called(target) as stub:
            await stub.GetJob(pb.GetJobRequest(job="ftjob-1"), metadata=KEY)
            assert await grpc_code(target) == "UNAVAILABLE"


class Endless(Training):
    """Tells without end."""

    async def WatchJob(self, request: pb.WatchJobRequest, context: Any) -> AsyncIterator[pb.Job]:
        """Long states."""
        try:
            while True:
                yield pb.Job(id=request.job, title="a" * (1 << 16))
        except (asyncio.CancelledError, GeneratorExit):
            self.left.set()
            raise


async def left(gateway: Edge, training: Training) -> None:
    """Wait until a watch has ended at the service, and counts no more."""
    async with asyncio.timeout(WITHIN):
        await training.left.wait()
        while len(gateway.watches):
            await asyncio.sleep(0)


async def test_a_watcher_that_stops_reading_is_left_at_both_doors(tmp_path: Path) -> None:
    async with doors(tmp_path, training=Endless(), bounds=SHORT) as (gateway, training, port):
        async with called(f"127.0.0.1:{port}") as stub:
            watch = stub.WatchJob(pb.WatchJobRequest(job="ftjob-1"), metadata=KEY)
            await watch.read()
            await left(gateway, training)
    async with doors(tmp_path, training=Endless(), bounds=SHORT) as (gateway, training, _):
        async with gateway.client.get("/api/v1/jobs/ftjob-1:watch", headers=AUTHORIZATION) as watch:
            await watch.content.readline()
            await left(gateway, training)


@pytest.mark.parametrize("method", ["training.v1.TrainingService/GetJob", "dataset.v1.DatasetService/UploadFile"])
async def test_a_sender_at_the_grpc_door_that_stops_is_told(tmp_path: Path, method: str) -> None:
    async with services() as (_, address):
        addresses = dict.fromkeys(SERVICES, address)
        async with edge(tmp_path, None, addresses=addresses, bounds=SHORT) as gateway:
            server, port = await gateway.open_grpc()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                call: Any = channel.stream_stream(f"/modelry.{method}")(metadata=KEY)
                if "Upload" in method:
                    await call.write(dataset_pb2.UploadFileRequest(filename="a").SerializeToString())
                async with asyncio.timeout(WITHIN):
                    assert (await call.code()).name == "DEADLINE_EXCEEDED"
            await server.stop(None)


@pytest.mark.parametrize(("listen", "hosts"), [("[::1]", ["[::1]"]), ("[::]", ["[::1]", "127.0.0.1"])])
async def test_a_gateway_listens_where_it_is_told_at_both_doors(
    tmp_path: Path, listen: str, hosts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = {"http": free_port(), "grpc": free_port()}
    monkeypatch.setenv("MODELRY_HOME", str(tmp_path))
    monkeypatch.setenv("MODELRY_TOKEN_SECRET", TOKEN_SECRET)
    monkeypatch.setenv("MODELRY_GATEWAY_ALLOW_PLAINTEXT", "true")
    for door, port in ports.items():
        monkeypatch.setenv(f"MODELRY_GATEWAY_{door.upper()}_LISTEN", f"{listen}:{port}")
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "gateway", stderr=asyncio.subprocess.DEVNULL)
    try:
        async with aiohttp.ClientSession() as session, asyncio.timeout(30):
            for host in hosts:
                while not await is_alive(session, f"http://{host}:{ports['http']}/healthz"):
                    await asyncio.sleep(0.1)
                assert await grpc_code(f"{host}:{ports['grpc']}") == "UNAUTHENTICATED"
    finally:
        process.terminate()
        await process.wait()


async def is_alive(session: aiohttp.ClientSession, url: str) -> bool:
    """Whether a gateway answers."""
    try:
        async with session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False
