"""Both doors over TLS: a certificate that changes while they are used, one that is broken, and a start in clear."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from aiohttp import web

from gateway.tls import Certificate
from modelry.api_methods import SERVICES
from modelry.training.v1 import training_pb2 as pb
from modelry.training.v1 import training_pb2_grpc
from services.chassis.auth import TokenIssuer
from services.chassis.rpc import RpcServer
from tests.certificates import Authority
from tests.integration.gateway.world import AUTHORIZATION, TOKEN_SECRET, Edge, Engine, edge

pytestmark = pytest.mark.integration

CHECK_SECONDS = 0.02
CALLERS, SWAPS, CALLS_A_SWAP = 4, 3, 40
QUESTION = {"model": "help", "messages": [{"role": "user", "content": "?"}], "stream": True}
KEY = tuple(AUTHORIZATION.items())


class Training(training_pb2_grpc.TrainingServiceServicer):
    """Has every job, and changes one when a test says so."""

    def __init__(self) -> None:
        self.change = asyncio.Event()

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.Job:
        """A job."""
        return pb.Job(id=request.job)

    async def WatchJob(self, request: pb.WatchJobRequest, context: Any) -> AsyncIterator[pb.Job]:
        """A job, and again after its change."""
        yield pb.Job(id=request.job, version=1)
        await self.change.wait()
        yield pb.Job(id=request.job, version=2)


@dataclass(frozen=True)
class Loopback:
    """Any port."""

    listen: str = "127.0.0.1:0"


@dataclass
class Doors:
    """Both doors, the files of their certificate, and how a client trusts them."""

    gateway: Edge
    authority: Authority
    folder: Path
    training: Training
    grpc_port: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)

    @property
    def trust(self) -> ssl.SSLContext:
        """A context of its own for each connection: no session is taken up again."""
        return ssl.create_default_context(cafile=str(self.authority.file))

    def write(self, chain: bytes, key: bytes) -> None:
        """Put a pair in the place of the one before."""
        for name, content in (("door.pem", chain), ("door.key", key)):
            (self.folder / "new").write_bytes(content)
            (self.folder / "new").replace(self.folder / name)

    async def serials(self) -> set[int]:
        """The serial numbers that new connections see, at both doors."""
        return {await self._serial(self.gateway.client.port or 0, "http/1.1"), await self._serial(self.grpc_port, "h2")}

    async def _serial(self, port: int, protocol: str) -> int:
        trust = self.trust
        trust.set_alpn_protocols([protocol])
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
        shown = writer.get_extra_info("ssl_object").getpeercert()
        writer.close()
        return int(shown["serialNumber"], 16)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Callable[..., Any]]:
        """An HTTP client with connections of its own; it gives `request`."""
        connector = aiohttp.TCPConnector(ssl=self.trust)
        async with aiohttp.ClientSession(connector=connector, headers=AUTHORIZATION) as session:
            yield lambda method, path, **more: session.request(method, self.gateway.client.make_url(path), **more)

    @asynccontextmanager
    async def stub(self) -> AsyncIterator[Any]:
        """A gRPC client with a connection of its own."""
        trusted = grpc.ssl_channel_credentials(self.authority.file.read_bytes())
        alone = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.secure_channel(f"localhost:{self.grpc_port}", trusted, options=alone) as channel:
            yield training_pb2_grpc.TrainingServiceStub(channel)

    async def lacks(self) -> set[str]:
        """What `/readyz` says is degraded; a doubtful certificate refuses no call."""
        async with self.session() as request, request("GET", "/readyz") as response:
            assert response.status == 200
            return {lack["name"] for lack in (await response.json())["degraded"]}


@asynccontextmanager
async def opened(folder: Path, *engines: Engine) -> AsyncIterator[tuple[Doors, int]]:
    """Both doors by TLS in front of a training service, and the serial of their first certificate."""
    authority, training = Authority(folder), Training()
    settings: Any = Loopback()
    server = RpcServer(settings, TokenIssuer(TOKEN_SECRET))
    server.offer(training)
    addresses = dict.fromkeys(SERVICES, "127.0.0.1:1") | {"training": f"127.0.0.1:{await server.start()}"}
    chain, key, serial = authority.issue()
    (folder / "door.pem").write_bytes(chain)
    (folder / "door.key").write_bytes(key)
    certificate = Certificate(folder / "door.pem", folder / "door.key", CHECK_SECONDS)
    await certificate.start()
    async with edge(folder, None, *engines, addresses=addresses, certificate=certificate) as gateway:
        door, port = await gateway.open_grpc(certificate=certificate)
        try:
            yield Doors(gateway, authority, folder, training, port), serial
        finally:
            await door.stop(None)
            await server.stop(0)
            await certificate.stop()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await holds():
            pass


async def call_both(doors: Doors) -> None:
    """Call both doors on connections that stay open and on new ones, and note how each call ended."""
    async with doors.session() as request, doors.stub() as stub:
        while True:
            async with doors.session() as request_anew, doors.stub() as stub_anew:
                for ask in (request, request_anew):
                    await note(doors, "http", ask_http(ask))
                for talk in (stub, stub_anew):
                    await note(doors, "grpc", talk.GetJob(pb.GetJobRequest(job="ftjob-1"), metadata=KEY, timeout=10))


async def note(doors: Doors, door: str, call: Awaitable[Any]) -> None:
    try:
        await call
        doors.outcomes[door] += 1
    except (aiohttp.ClientError, grpc.aio.AioRpcError, OSError) as error:
        doors.outcomes[f"failed: {error!r}"] += 1


async def ask_http(request: Callable[..., Any]) -> None:
    async with request("GET", "/v1/models") as response:
        await response.read()
        response.raise_for_status()


async def test_a_certificate_swapped_under_load_fails_no_call_and_breaks_no_stream(tmp_path: Path) -> None:
    swapped = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'data: {"choices": []}\n\n')
        await swapped.wait()
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    async with opened(tmp_path, Engine(answer)) as (doors, first), doors.session() as request, doors.stub() as stub:
        watch = stub.WatchJob(pb.WatchJobRequest(job="ftjob-1"), metadata=KEY)
        assert (await watch.read()).version == 1
        async with request("POST", "/v1/chat/completions", json=QUESTION) as stream:
            assert (await stream.content.readline()).startswith(b"data: ")
            load = [asyncio.create_task(call_both(doors)) for _ in range(CALLERS)]
            assert await doors.serials() == {first}
            for _ in range(SWAPS):
                await swap(doors)
            for task in load:
                task.cancel()
            await asyncio.gather(*load, return_exceptions=True)
            swapped.set()
            doors.training.change.set()
            assert (await stream.content.read()).endswith(b"data: [DONE]\n\n")
        assert (await watch.read()).version == 2
        assert doors.outcomes.keys() == {"http", "grpc"}, doors.outcomes


async def swap(doors: Doors) -> None:
    """Change the certificate, until both doors show it and more calls were made at each."""
    chain, key, serial = doors.authority.issue()
    doors.write(chain, key)

    async def shown() -> bool:
        return await doors.serials() == {serial}

    await until(shown)
    goals = {door: doors.outcomes[door] + CALLS_A_SWAP for door in ("http", "grpc")}

    async def called() -> bool:
        await asyncio.sleep(0)
        return all(doors.outcomes[door] >= goal for door, goal in goals.items()) or len(doors.outcomes) > 2

    await until(called)


@pytest.mark.parametrize("broken", ["no certificate", "another key", "expired", "gone", "with a password"])
async def test_a_broken_new_certificate_keeps_the_old_one_and_says_so(broken: str, tmp_path: Path) -> None:
    async with opened(tmp_path) as (doors, first):
        assert await doors.lacks() == set()
        break_it(doors, broken)

        async def says_so() -> bool:
            return await doors.lacks() == {"new_certificate"}

        await until(says_so)
        assert await doors.serials() == {first}
        chain, key, serial = doors.authority.issue()
        doors.write(chain, key)

        async def is_well() -> bool:
            return await doors.serials() == {serial} and not await doors.lacks()

        await until(is_well)


def break_it(doors: Doors, how: str) -> None:
    chain, key, _ = doors.authority.issue(-timedelta(hours=1) if how == "expired" else timedelta(days=1))
    if how == "gone":
        (doors.folder / "door.key").unlink()
    elif how == "another key":
        doors.write(chain, doors.authority.issue()[1])
    elif how == "with a password":
        doors.write(chain, Authority.lock(key))
    else:
        doors.write(b"nothing" if how == "no certificate" else chain, key)


def test_a_gateway_whose_doors_are_open_in_clear_does_not_start(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MODELRY_")}
    environment |= {"MODELRY_HOME": str(tmp_path), "MODELRY_TOKEN_SECRET": TOKEN_SECRET}
    environment["MODELRY_GATEWAY_HTTP_LISTEN"] = "0.0.0.0:0"
    done = subprocess.run(
        [sys.executable, "-m", "gateway"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "MODELRY_GATEWAY_ALLOW_PLAINTEXT=true" in done.stderr.splitlines()[-1]
