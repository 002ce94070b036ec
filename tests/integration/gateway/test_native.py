"""The native API and the gRPC door against a training service that a test scripts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from gateway.grpc_proxy import GrpcProxy, open_grpc_proxy
from modelry.api_methods import AREAS, SERVED_BY
from modelry.training.v1 import training_pb2 as pb
from modelry.training.v1 import training_pb2_grpc
from services.chassis.auth import TokenIssuer
from services.chassis.errors import NotFound, to_status
from tests.integration.gateway.world import AUTHORIZATION, SECRET, TOKEN_SECRET, Edge, edge

pytestmark = pytest.mark.integration


class Training(training_pb2_grpc.TrainingServiceServicer):
    """Answers with what it is told, and notes who asked."""

    def __init__(self) -> None:
        self.authenticator: list[str] = []
        self.left = asyncio.Event()
        self.more = asyncio.Event()

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.Job:
        """A job; `gone` is none."""
        given = dict(context.invocation_metadata())
        principal = TokenIssuer(TOKEN_SECRET).verify(given["authorization"].removeprefix("Bearer "))
        self.authenticator.append(f"{principal.project} {principal.role.name}")
        if request.job == "gone":
            await refuse(context)
        return pb.Job(id=request.job, state=pb.Job.RUNNING)

    async def WatchJob(self, request: pb.WatchJobRequest, context: Any) -> AsyncIterator[pb.Job]:
        """Two states, then a break, or nothing for ever."""
        if request.job == "gone":
            await refuse(context)
        yield pb.Job(id=request.job, version=4, state=pb.Job.QUEUED)
        yield pb.Job(id=request.job, version=5, state=pb.Job.RUNNING)
        if request.job == "breaks":
            await refuse(context)
        try:
            await self.more.wait()
        except asyncio.CancelledError:
            self.left.set()
            raise


async def refuse(context: Any) -> None:
    """End the call with a refusal as services give it."""
    from grpc_status import rpc_status

    await context.abort_with_status(rpc_status.to_status(to_status(NotFound.of("job", "gone"), "req_1")))


@asynccontextmanager
async def scripted(tmp_path: Path) -> AsyncIterator[tuple[Edge, Training]]:
    """The edge in front of a scripted training."""
    training, server = Training(), grpc.aio.server()
    training_pb2_grpc.add_TrainingServiceServicer_to_server(training, server)  # type: ignore[no-untyped-call]
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    addresses = {SERVED_BY.get(area, area): address for area in AREAS}
    try:
        async with edge(tmp_path, None, addresses=addresses) as gateway:
            yield gateway, training
    finally:
        await server.stop(None)


async def test_a_call_reaches_its_service_in_the_callers_name(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (gateway, training):
        async with gateway.client.get("/api/v1/jobs/ftjob-1", headers=AUTHORIZATION) as response:
            assert response.status == 200
            job = await response.json()
        assert (job["id"], job["state"]) == ("ftjob-1", "RUNNING")
        assert training.authenticator == ["proj-test DEVELOPER"]


async def test_a_services_refusal_keeps_its_kind_and_its_request_id(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (gateway, _):
        async with gateway.client.get("/api/v1/jobs/gone", headers=AUTHORIZATION) as response:
            error = (await response.json())["error"]
            assert (response.status, error["code"], error["request_id"]) == (404, 404, response.headers["x-request-id"])


async def test_without_a_key_no_service_is_asked(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (gateway, training):
        async with gateway.client.get("/api/v1/jobs/ftjob-1") as response:
            assert response.status == 401
        assert training.authenticator == []


async def test_a_watch_is_a_stream_of_events_with_versions(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (gateway, training):
        async with gateway.client.get("/api/v1/jobs/ftjob-1:watch", headers=AUTHORIZATION) as response:
            assert response.headers["content-type"] == "text/event-stream"
            first = await response.content.readuntil(b"\n\n")
            second = await response.content.readuntil(b"\n\n")
            training.more.set()
            assert await response.content.read() == b""
    assert [event.split(b"\n")[0] for event in (first, second)] == [b"id: 4", b"id: 5"]
    assert json.loads(second.split(b"data: ")[1])["state"] == "RUNNING"


async def test_a_watch_that_is_refused_is_a_plain_error(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (gateway, _):
        async with gateway.client.get("/api/v1/jobs/gone:watch", headers=AUTHORIZATION) as response:
            assert response.status == 404
            assert response.content_type == "application/json"


async def test_a_watch_that_breaks_ends_with_an_error_event(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (gateway, _):
        async with gateway.client.get("/api/v1/jobs/breaks:watch", headers=AUTHORIZATION) as response:
            body = await response.read()
    last = body.rstrip(b"\n").rsplit(b"\n\n", 1)[1]
    assert last.startswith(b"event: error\ndata: ")
    assert json.loads(last.split(b"data: ")[1])["error"]["code"] == 404


async def test_when_a_watcher_leaves_its_service_is_left_too(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (gateway, training):
        async with aiohttp.ClientSession() as leaving:
            url = gateway.client.make_url("/api/v1/jobs/ftjob-1:watch")
            async with leaving.get(url, headers=AUTHORIZATION) as response:
                await response.content.readuntil(b"\n\n")
        async with asyncio.timeout(10):
            await training.left.wait()


async def test_the_grpc_door_forwards_calls_of_every_kind(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (gateway, training):
        door = GrpcProxy(gateway.authenticator, gateway.channels, gateway.administration)
        server, port = await open_grpc_proxy("127.0.0.1:0", door)
        metadata = (("authorization", f"Bearer {SECRET}"),)
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
                stub: Any = training_pb2_grpc.TrainingServiceStub(opened)
                assert (await stub.GetJob(pb.GetJobRequest(job="ftjob-1"), metadata=metadata)).id == "ftjob-1"
                watching = stub.WatchJob(pb.WatchJobRequest(job="ftjob-1"), metadata=metadata)
                assert [(await watching.read()).version, (await watching.read()).version] == [4, 5]
                watching.cancel()
                async with asyncio.timeout(10):
                    await training.left.wait()
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await stub.GetJob(pb.GetJobRequest(job="gone"), metadata=metadata)
                assert refused.value.code() is grpc.StatusCode.NOT_FOUND
                with pytest.raises(grpc.aio.AioRpcError) as unknown:
                    await stub.GetJob(pb.GetJobRequest(job="ftjob-1"))
                assert unknown.value.code() is grpc.StatusCode.UNAUTHENTICATED
        finally:
            await server.stop(None)
