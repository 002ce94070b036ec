"""What callers of the gRPC door may get wrong, and what every answer of it has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2

from modelry.api_methods import SERVICES, methods
from modelry.training.v1 import training_pb2 as pb
from modelry.training.v1 import training_pb2_grpc
from services.chassis.auth import TokenIssuer
from services.chassis.errors import NotFound
from services.chassis.rpc import RpcServer
from tests.integration.gateway.world import AUTHORIZATION, TOKEN_SECRET, edge

pytestmark = pytest.mark.integration

KEY = tuple(AUTHORIZATION.items())
GET_JOB = "/modelry.training.v1.TrainingService/GetJob"
GET_MODEL = "/modelry.registry.v1.RegistryService/GetModel"  # its service is away
CHECK = "/grpc.health.v1.Health/Check"
REFLECT = {
    version: f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo" for version in ("v1", "v1alpha")
}
NO_MESSAGE = b"\x0a\xff"  # a text of 255 bytes that does not come
JOB = pb.GetJobRequest(job="ftjob-1").SerializeToString()


class Training(training_pb2_grpc.TrainingServiceServicer):
    """Has every job but one."""

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.Job:
        """A job; `gone` is none."""
        if request.job == "gone":
            raise NotFound.of("job", "gone")
        return pb.Job(id=request.job)


@dataclass(frozen=True)
class Loopback:
    """Any port."""

    listen: str = "127.0.0.1:0"


@dataclass(frozen=True)
class Answered:
    """What a call got."""

    code: grpc.StatusCode
    details: str
    request_id: str
    messages: list[bytes]


@dataclass(frozen=True)
class Door:
    """The gRPC door, spoken to in bytes."""

    channel: Any

    async def call(self, path: str, *parts: bytes, metadata: tuple[tuple[str, str], ...] = KEY) -> Answered:
        """Send these messages, which may be none, and say that there are no more."""
        call = self.channel.stream_stream(path)(iter(parts), metadata=metadata)
        messages = []
        async with asyncio.timeout(10):
            while (code := await _ended(call, messages)) is None:
                pass
        trailing = dict(await call.trailing_metadata() or ())
        return Answered(code, await call.details() or "", trailing.get("x-request-id", ""), messages)


async def _ended(call: Any, messages: list[bytes]) -> grpc.StatusCode | None:
    try:
        message = await call.read()
    except grpc.aio.AioRpcError as error:
        return error.code()
    if message is grpc.aio.EOF:
        return grpc.StatusCode((await call.code()).value)
    messages.append(message)
    return None


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[Door, Any]]:
    """The door in front of a real training server and services that are away, and the edge that it belongs to."""
    settings: Any = Loopback()
    server = RpcServer(settings, TokenIssuer(TOKEN_SECRET))
    server.offer(Training())
    address = f"127.0.0.1:{await server.start()}"
    addresses = dict.fromkeys(SERVICES, "127.0.0.1:1") | {"training": address}
    async with edge(folder, None, addresses=addresses) as gateway:
        door, port = await gateway.open_grpc()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield Door(channel), gateway
        finally:
            await door.stop(None)
            await server.stop(0)


@pytest.mark.parametrize("path", [GET_JOB, CHECK, *REFLECT.values()])
async def test_bytes_that_are_no_message_are_an_invalid_argument_without_a_traceback(
    path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path) as (door, _):
        answered = await door.call(path, NO_MESSAGE)
    assert answered.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize("path", [GET_JOB, GET_JOB.replace("Get", "Watch"), CHECK, CHECK.replace("Check", "Watch")])
async def test_a_call_without_a_message_is_answered_at_once(path: str, tmp_path: Path) -> None:
    async with opened(tmp_path) as (door, _):
        assert (await door.call(path)).code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "path",
    [
        "/modelry.training.v1.TrainingService/Guess",
        "/modelry.access.v1.AccessInternalService/ResolveCredential",
        CHECK.replace("Check", "List"),
    ],
)
async def test_a_method_that_is_not_offered_is_unimplemented(
    path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path) as (door, _):
        assert (await door.call(path, b"")).code is grpc.StatusCode.UNIMPLEMENTED
    assert [record for record in caplog.records if record.exc_info] == []


async def test_every_answer_has_a_request_id_of_ours_at_both_doors(tmp_path: Path) -> None:
    mine = ("x-request-id", "mine")
    gone = pb.GetJobRequest(job="gone").SerializeToString()
    async with opened(tmp_path) as (door, gateway):
        answers = {
            "OK": await door.call(GET_JOB, JOB, metadata=(*KEY, mine)),
            "NOT_FOUND": await door.call(GET_JOB, gone, metadata=(*KEY, mine)),
            "INVALID_ARGUMENT": await door.call(GET_JOB, metadata=(*KEY, mine)),
            "UNAUTHENTICATED": await door.call(GET_JOB, JOB, metadata=(mine,)),
            "UNAVAILABLE": await door.call(GET_MODEL, b"", metadata=(*KEY, mine)),
            "UNIMPLEMENTED": await door.call("/modelry.training.v1.TrainingService/Guess", b"", metadata=(mine,)),
        }
        own = await door.call(CHECK, b"", metadata=(mine,))
        async with gateway.client.get(
            "/api/v1/jobs/ftjob-1", headers={**AUTHORIZATION, "x-request-id": "mine"}
        ) as http:
            assert http.headers["x-request-id"].startswith("req_")
    assert {answer.code.name: answer.request_id[:4] for answer in answers.values()} == dict.fromkeys(answers, "req_")
    assert own.request_id.startswith("req_")
    assert len({answer.request_id for answer in answers.values()}) == len(answers)


async def test_what_is_away_is_told_without_its_address(tmp_path: Path) -> None:
    async with opened(tmp_path) as (door, _):
        assert "127.0.0.1" not in (await door.call(GET_MODEL, b"")).details


@pytest.mark.parametrize("version", REFLECT)
async def test_reflection_describes_the_public_api_and_nothing_internal(version: str, tmp_path: Path) -> None:
    async with opened(tmp_path) as (door, _):

        async def ask(**question: str) -> Any:
            asked = reflection_pb2.ServerReflectionRequest(**question).SerializeToString()
            [message] = (await door.call(REFLECT[version], asked, metadata=())).messages
            return reflection_pb2.ServerReflectionResponse.FromString(message)

        listed = {one.name for one in (await ask(list_services="")).list_services_response.service}
        assert listed == {
            *(method.service for method in methods()),
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        for name in listed:
            assert (await ask(file_containing_symbol=name)).HasField("file_descriptor_response"), name
        for area in (*SERVICES, "billing"):
            internal = f"modelry.{area}.v1.{area.capitalize()}InternalService"
            assert (await ask(file_containing_symbol=internal)).error_response.error_code == 5
            assert (await ask(file_by_filename=f"modelry/{area}/v1/internal.proto")).error_response.error_code == 5
