"""The native API and the gRPC door against a training service that a test scripts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import aiohttp
import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from grpc_status import rpc_status

from modelry.api_methods import AREAS, SERVED_BY
from modelry.training.v1 import training_pb2 as pb
from modelry.training.v1 import training_pb2_grpc
from services.chassis.auth import TokenIssuer
from services.chassis.data import check_etag
from services.chassis.errors import ModelryError, NotFound, to_status
from services.chassis.proto_values import changes_of
from services.chassis.rpc import OPENED
from tests.integration.gateway.world import AUTHORIZATION, PROJECT, SECRET, TOKEN_SECRET, Edge, edge

pytestmark = pytest.mark.integration


class Training(training_pb2_grpc.TrainingServiceServicer):
    """Answers with what it is told, and notes who asked."""

    def __init__(self) -> None:
        self.authenticator: list[str] = []
        self.left = asyncio.Event()
        self.more = asyncio.Event()
        self.job = pb.Job(id="ftjob-1", title="old", metadata={"a": "b"}, version=3, etag="3")

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.Job:
        """A job; `gone` is none."""
        given = dict(context.invocation_metadata())
        principal = TokenIssuer(TOKEN_SECRET).verify(given["authorization"].removeprefix("Bearer "))
        self.authenticator.append(f"{principal.project} {principal.role.name}")
        if request.job == "gone":
            await refuse(context)
        return pb.Job(id=request.job, state=pb.Job.RUNNING, etag=self.job.etag)

    async def UpdateJob(self, request: pb.UpdateJobRequest, context: Any) -> pb.Job:
        """Changes its one job as every service does."""

        async def stored() -> pb.Job:
            return self.job

        try:
            check_etag("job", request.job.id, request.job.etag, self.job.version)
            changes = await changes_of(request, stored)
        except ModelryError as error:
            await abort(context, error)
        self.job.title = changes.get("title", self.job.title)
        if "metadata" in changes:
            self.job.metadata.clear()
            self.job.metadata.update(changes["metadata"])
        self.job.version += 1
        self.job.etag = str(self.job.version)
        return self.job

    async def WatchJob(self, request: pb.WatchJobRequest, context: Any) -> AsyncIterator[pb.Job]:
        """Two states, then a break, or nothing for ever; of `quiet` nothing but that the stream stands."""
        if request.job == "gone":
            await refuse(context)
        if request.job == "quiet":
            await context.send_initial_metadata(((OPENED, "1"),))
            await self.more.wait()
            return
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
    await abort(context, NotFound.of("job", "gone"))


async def abort(context: Any, error: ModelryError) -> NoReturn:
    """End the call with an error as services give it."""
    await context.abort_with_status(rpc_status.to_status(to_status(error, "req_1")))
    raise AssertionError


@asynccontextmanager
async def scripted(
    tmp_path: Path, training: Training | None = None, **settings: Any
) -> AsyncIterator[tuple[Edge, Training]]:
    """The edge in front of a scripted training."""
    training, server = training or Training(), grpc.aio.server()
    training_pb2_grpc.add_TrainingServiceServicer_to_server(training, server)  # type: ignore[no-untyped-call]
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    addresses = {SERVED_BY.get(area, area): address for area in AREAS}
    try:
        async with edge(tmp_path, None, addresses=addresses, **settings) as gateway:
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


Patched = tuple[int, dict[str, Any], str]


async def patch(gateway: Edge, body: dict[str, Any], query: str = "", match: str = "") -> Patched:
    """Change the job over HTTP. Returns: status, answer, its etag."""
    headers = {**AUTHORIZATION, **({"If-Match": match} if match else {})}
    async with gateway.client.patch(f"/api/v1/jobs/ftjob-1{query}", json=body, headers=headers) as response:
        return response.status, await response.json(), response.headers.get("ETag", "")


async def test_a_given_mask_is_the_mask_at_both_doors(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (gateway, _), grpc_door(gateway) as stub:
        status, job, _ = await patch(gateway, {"metadata": {"c": "d"}}, "?update_mask=metadata")
        assert (status, job["title"], job["metadata"]) == (200, "old", {"c": "d"})
        status, job, _ = await patch(gateway, {"title": "new", "metadata": {}}, "?update_mask=title")
        assert (status, job["title"], job["metadata"]) == (200, "new", {"c": "d"})
        wanted = pb.Job(id="ftjob-1", title="other", metadata={"e": "f"})
        request = pb.UpdateJobRequest(job=wanted, update_mask=FieldMask(paths=["metadata"]))
        job = await stub.UpdateJob(request, metadata=GRPC_KEY)
        assert (job.title, dict(job.metadata)) == ("new", {"e": "f"})


async def test_if_match_refuses_a_lost_update_with_412(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (gateway, training), grpc_door(gateway) as stub:
        async with gateway.client.get("/api/v1/jobs/ftjob-1", headers=AUTHORIZATION) as response:
            read, etag = await response.json(), response.headers["ETag"]
        assert etag == f'"{read["etag"]}"' == '"3"'
        status, changed, now = await patch(gateway, {"title": "mine"}, match=etag)
        assert (status, changed["title"], now) == (200, "mine", '"4"')
        status, refused, _ = await patch(gateway, {"title": "lost"}, match=etag)
        assert (status, refused["error"]["reason"]) == (412, "ETAG_MISMATCH")
        assert refused["error"]["details"]["metadata"]["etag"] == "4"
        assert (await patch(gateway, {"title": "lost", "etag": "3"}))[0] == 409
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.UpdateJob(pb.UpdateJobRequest(job=pb.Job(id="ftjob-1", etag="3")), metadata=GRPC_KEY)
        assert caught.value.code() is grpc.StatusCode.ABORTED
        assert training.job.title == "mine"


@pytest.mark.parametrize("query", ["", "?purpose=batch"])
async def test_a_field_of_a_form_that_is_given_twice_is_refused_by_name(tmp_path: Path, query: str) -> None:
    async with scripted(tmp_path) as (gateway, _):
        form = aiohttp.FormData({"purpose": "fine-tune"})
        if not query:
            form.add_field("purpose", "batch")
        form.add_field("file", b"{}", filename="a.jsonl")
        async with gateway.client.post(f"/api/v1/files{query}", data=form, headers=AUTHORIZATION) as response:
            error = (await response.json())["error"]
            assert (response.status, error["details"]["field_violations"][0]["field"]) == (400, "purpose")


@pytest.mark.parametrize("name", ["authorization", "modelry-project", "idempotency-key"])
async def test_a_header_that_is_given_twice_is_refused_at_every_door(tmp_path: Path, name: str) -> None:
    async with scripted(tmp_path) as (gateway, training), grpc_door(gateway) as stub:
        value = {"authorization": f"Bearer {SECRET}", "modelry-project": PROJECT}.get(name, "once")
        twice = [*AUTHORIZATION.items(), (name, value)] + ([(name, value)] if name not in AUTHORIZATION else [])
        for path in ("/api/v1/jobs/ftjob-1", "/v1/models"):
            async with gateway.client.get(path, headers=twice) as response:
                assert response.status == 400 and name in (await response.json())["error"]["message"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetJob(pb.GetJobRequest(job="ftjob-1"), metadata=tuple(twice))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert training.authenticator == []


async def test_without_a_key_no_service_is_asked(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (gateway, training):
        async with gateway.client.get("/api/v1/jobs/ftjob-1") as response:
            assert response.status == 401
        assert training.authenticator == []


async def test_a_watch_is_a_stream_of_events_with_versions(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (gateway, training):
        async with gateway.client.get("/api/v1/jobs/ftjob-1:watch", headers=AUTHORIZATION) as response:
            assert response.headers["content-type"] == "text/event-stream"
            assert await response.content.readuntil(b"\n\n") == b": ok\n\n"
            first = await response.content.readuntil(b"\n\n")
            second = await response.content.readuntil(b"\n\n")
            training.more.set()
            assert await response.content.read() == b""
    assert [event.split(b"\n")[0] for event in (first, second)] == [b"id: 4", b"id: 5"]
    assert json.loads(second.split(b"data: ")[1])["state"] == "RUNNING"


async def test_a_watch_with_nothing_to_tell_has_headers_at_once_and_a_comment_now_and_then(tmp_path: Path) -> None:
    """A normal reconnect with `Last-Event-ID` got not even a status line until something happened."""
    async with scripted(tmp_path, pause_seconds=0.05) as (gateway, _), grpc_door(gateway) as stub:
        headers = {**AUTHORIZATION, "Last-Event-ID": "5"}
        async with gateway.client.get("/api/v1/jobs/quiet:watch", headers=headers) as response:
            assert (response.status, response.headers["content-type"]) == (200, "text/event-stream")
            pieces = [await response.content.readuntil(b"\n\n") for _ in range(3)]
        assert pieces == [b": ok\n\n", b": keep-alive\n\n", b": keep-alive\n\n"]
        watching = stub.WatchJob(pb.WatchJobRequest(job="quiet"), metadata=GRPC_KEY)
        await watching.initial_metadata()
        watching.cancel()


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


GRPC_KEY = (("authorization", f"Bearer {SECRET}"),)


@asynccontextmanager
async def grpc_door(gateway: Edge) -> AsyncIterator[Any]:
    """A stub at the gateway's gRPC door."""
    server, port = await gateway.open_grpc()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
            yield training_pb2_grpc.TrainingServiceStub(opened)
    finally:
        await server.stop(None)


async def test_the_grpc_door_forwards_calls_of_every_kind(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (gateway, training), grpc_door(gateway) as stub:
        assert (await stub.GetJob(pb.GetJobRequest(job="ftjob-1"), metadata=GRPC_KEY)).id == "ftjob-1"
        watching = stub.WatchJob(pb.WatchJobRequest(job="ftjob-1"), metadata=GRPC_KEY)
        assert [(await watching.read()).version, (await watching.read()).version] == [4, 5]
        watching.cancel()
        async with asyncio.timeout(10):
            await training.left.wait()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.GetJob(pb.GetJobRequest(job="gone"), metadata=GRPC_KEY)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await stub.GetJob(pb.GetJobRequest(job="ftjob-1"))
        assert unknown.value.code() is grpc.StatusCode.UNAUTHENTICATED
