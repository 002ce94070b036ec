"""A real server and real channels on loopback: who may call, what a request must have, and how errors arrive."""

import asyncio
import importlib.util
import logging
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from sqlalchemy.exc import OperationalError

from services.chassis import auth, errors, telemetry
from services.chassis.rpc import OPENED, Connections, RpcServer, channel, opened

pytestmark = pytest.mark.integration

_spec = importlib.util.spec_from_file_location("modelry_toy", Path(__file__).with_name("toy.py"))
assert _spec is not None and _spec.loader is not None
toy: Any = sys.modules.setdefault("modelry_toy", importlib.util.module_from_spec(_spec))
if not hasattr(toy, "Toy"):
    _spec.loader.exec_module(toy)

ISSUER = auth.TokenIssuer("s" * 40)
KINDS = ["Make", "Watch", "Gather", "Chat"]


@dataclass
class Settings:
    """What the server and the connections read."""

    listen: str = "127.0.0.1:0"
    toys: str = "127.0.0.1:1"

    def address_of(self, service: str) -> str:
        return {"toys": self.toys}[service]


class House:
    """A server whose methods do what `act` is set to, and a channel to it."""

    def __init__(self) -> None:
        self.toys = toy.Toys(self._act)
        self.act: Any = self._echo

    async def _act(self, request: Any, context: Any) -> Any:
        return await self.act(request, context)

    async def _echo(self, request: Any, context: Any) -> Any:
        return request

    async def start(self) -> None:
        self.server = RpcServer(Settings(), ISSUER, deadline_seconds=0.3)
        self.server.add(self.toys, toy.add, toy.SERVICE)
        self.server.add(self.toys, toy.add_internal, toy.INTERNAL)
        self.port = await self.server.start()
        self.channel = channel(f"127.0.0.1:{self.port}", [f"/{toy.SERVICE}/Make"])

    async def stop(self) -> None:
        await self.channel.close()
        await self.server.stop(0.1)

    async def call(self, method: str, *requests: Any, role: auth.Role = auth.Role.DEVELOPER, **options: Any) -> Any:
        options.setdefault("metadata", key(role))
        return await toy.call(self.channel, method, *(requests or (toy.Toy(name="a"),)), **options)

    async def refusal(self, method: str, *requests: Any, **options: Any) -> status_pb2.Status:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(method, *requests, **options)
        return status_of(caught.value)


def key(role: auth.Role = auth.Role.DEVELOPER, kind: auth.Kind = "user") -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {ISSUER.issue(auth.Principal('proj-1', role, 'key-1', kind, 'key-1'))}"),)


def status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    trailing = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    return status


def detail(status: status_pb2.Status, kind: Any) -> Any:
    found = kind()
    assert any(packed.Unpack(found) for packed in status.details)
    return found


def reason(status: status_pb2.Status) -> str:
    return detail(status, error_details_pb2.ErrorInfo).reason


@pytest.fixture
async def house() -> AsyncIterator[House]:
    opened = House()
    await opened.start()
    yield opened
    await opened.stop()


@pytest.mark.parametrize("method", KINDS)
async def test_a_call_is_answered_and_knows_its_caller(house, method):
    seen = []

    async def act(request: Any, context: Any) -> Any:
        seen.append((auth.current().project, auth.current().role, telemetry.request_id()))
        return request

    house.act = act
    answers = await house.call(method, metadata=(*key(), ("x-request-id", "req-7")))
    assert answers[-1].name == "a"
    assert seen == [("proj-1", auth.Role.DEVELOPER, "req-7")]


@pytest.mark.parametrize("method", KINDS)
async def test_an_error_arrives_with_its_details(house, method):
    async def act(request: Any, context: Any) -> Any:
        raise errors.WrongState.of("toy", "a", "stop", "ENDED", ["RUNNING"])

    house.act = act
    status = await house.refusal(method)
    assert status.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    info = detail(status, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain, info.metadata["state"]) == ("WRONG_STATE", "modelry", "ENDED")


@pytest.mark.parametrize("method", KINDS)
@pytest.mark.parametrize(
    "surprise",
    [ValueError("password=hunter2"), OperationalError("SELECT secret", {}, Exception("disk")), TimeoutError("inner")],
    ids=["value", "database", "timeout"],
)
async def test_a_surprise_shows_a_fixed_text_and_is_logged_whole(house, method, surprise, caplog):
    async def act(request: Any, context: Any) -> Any:
        raise surprise

    house.act = act
    with caplog.at_level(logging.ERROR, "services.chassis.rpc.interceptor"):
        status = await house.refusal(method, metadata=(*key(), ("x-request-id", "req-9")))
    assert status.code == grpc.StatusCode.INTERNAL.value[0]
    assert status.message == errors.INTERNAL_MESSAGE
    info = detail(status, error_details_pb2.ErrorInfo)
    assert info.reason == "INTERNAL"
    assert dict(info.metadata) == {"request_id": "req-9"}
    assert caplog.records[-1].exc_info[1] is surprise


async def test_an_abort_of_the_methods_own_passes(house):
    async def act(request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.DATA_LOSS, "own words")

    house.act = act
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await house.call("Make")
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.DATA_LOSS, "own words")


@pytest.mark.parametrize("method", KINDS)
async def test_no_key_and_a_wrong_key_are_unauthenticated(house, method):
    for metadata in ((), (("authorization", "Bearer nonsense"),), (("authorization", "Basic eA=="),)):
        status = await house.refusal(method, metadata=metadata)
        assert status.code == grpc.StatusCode.UNAUTHENTICATED.value[0]


@pytest.mark.parametrize("method", KINDS)
async def test_a_role_below_the_protos_is_denied(house, method):
    status = await house.refusal(method, role=auth.Role.VIEWER)
    assert status.code == grpc.StatusCode.PERMISSION_DENIED.value[0]
    assert detail(status, error_details_pb2.ErrorInfo).metadata["required_role"] == "DEVELOPER"
    assert await house.call(method, role=auth.Role.ADMIN)


async def test_an_internal_method_is_for_services(house):
    assert await house.call(f"{toy.INTERNAL}.Ask", metadata=key(auth.Role.OWNER, "service"))
    status = await house.refusal(f"{toy.INTERNAL}.Ask", role=auth.Role.ADMIN)
    assert status.code == grpc.StatusCode.PERMISSION_DENIED.value[0]


@pytest.mark.parametrize("method", KINDS)
@pytest.mark.parametrize(
    ("request_", "paths"),
    [
        (lambda: toy.Toy(), ["name"]),
        (lambda: toy.Toy(part=toy.Part()), ["name", "part.name"]),
        (lambda: toy.Toy(name="a", parts=[toy.Part(name="b"), toy.Part()]), ["parts[1].name"]),
        (lambda: toy.Toy(name="a", part=toy.Part(name="b", parts=[toy.Part()])), ["part.parts[0].name"]),
        (lambda: toy.Toy(name="a", part=toy.Part(name="b", rate=2.5)), ["part.rate"]),
        (lambda: toy.Toy(name="a", part=toy.Part(name="b", rate=float("nan"))), ["part.rate"]),
    ],
)
async def test_a_request_that_lacks_something_is_refused_by_path(house, method, request_, paths):
    status = await house.refusal(method, request_())
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert [v.field for v in detail(status, error_details_pb2.BadRequest).field_violations] == paths


async def test_a_unary_call_without_a_deadline_gets_the_default(house):
    async def act(request: Any, context: Any) -> Any:
        await asyncio.Event().wait()

    house.act = act
    path = f"/{toy.SERVICE}/Make"
    async with grpc.aio.insecure_channel(f"127.0.0.1:{house.port}") as plain:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await plain.unary_unary(path, toy.Toy.SerializeToString, toy.Toy.FromString)(
                toy.Toy(name="a"), metadata=key()
            )
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert reason(status_of(caught.value)) == "DEADLINE_EXCEEDED"


async def test_a_stream_that_is_left_ends_the_method(house):
    left = asyncio.Event()

    async def act(request: Any, context: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    house.act = act
    path = f"/{toy.SERVICE}/Watch"
    call = house.channel.unary_stream(path, toy.Toy.SerializeToString, toy.Toy.FromString)(
        toy.Toy(name="a"), metadata=key()
    )
    assert (await call.read()).name == "first"
    call.cancel()
    await asyncio.wait_for(left.wait(), 5)


async def test_a_stream_that_stands_says_so_before_its_first_message(house):
    async def nothing_yet(request: Any, context: Any) -> Any:
        await opened()
        await opened()
        await asyncio.Event().wait()

    house.act = nothing_yet
    stream = house.channel.unary_stream(
        f"/{toy.SERVICE}/Watch",
        request_serializer=toy.Toy.SerializeToString,
        response_deserializer=toy.Toy.FromString,
    )(toy.Toy(name="quiet"), metadata=key())
    assert OPENED in dict(await asyncio.wait_for(stream.initial_metadata(), 10))
    stream.cancel()


async def test_the_trace_and_the_request_id_travel(house):
    seen = []

    async def act(request: Any, context: Any) -> Any:
        seen.append(telemetry.trace_id())
        return request

    house.act = act
    with telemetry.span("test", headers={}):
        await house.call("Make")
        await house.call("Watch")
        assert seen == [telemetry.trace_id()] * 2


async def test_every_answer_has_a_request_id(house):
    call = house.channel.unary_unary(f"/{toy.SERVICE}/Make", toy.Toy.SerializeToString, toy.Toy.FromString)(
        toy.Toy(name="a"), metadata=key()
    )
    await call
    assert dict(await call.trailing_metadata())["x-request-id"].startswith("req-")


async def test_health_and_reflection_need_no_key_and_health_follows_the_stop(house):
    stub = health_pb2_grpc.HealthStub(house.channel)
    for name in ("", toy.SERVICE):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    async for listed in reflection_pb2_grpc.ServerReflectionStub(house.channel).ServerReflectionInfo(iter([ask])):
        assert toy.SERVICE in [service.name for service in listed.list_services_response.service]
    await house.server.set_serving(False)
    answer = await stub.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_a_taken_port_stops_the_start(house):
    second = RpcServer(Settings(listen=f"127.0.0.1:{house.port}"), ISSUER)
    with pytest.raises(errors.ModelryError, match=str(house.port)):
        await second.start()


async def test_only_unavailable_is_called_again(house):
    calls = []

    async def act(request: Any, context: Any) -> Any:
        calls.append(request.note)
        raise errors.Unavailable("not yet") if request.note == "away" else errors.Conflict("changed")

    house.act = act
    assert (await house.refusal("Make", toy.Toy(name="a", note="away"))).code == grpc.StatusCode.UNAVAILABLE.value[0]
    assert (await house.refusal("Make", toy.Toy(name="a", note="stale"))).code == grpc.StatusCode.ABORTED.value[0]
    assert calls == ["away"] * 4 + ["stale"]


async def test_only_what_the_protos_say_may_be_repeated_is_called_again(house):
    calls = []

    async def act(request: Any, context: Any) -> Any:
        calls.append(request.note)
        raise errors.Unavailable("not yet")

    house.act = act
    connections = Connections(Settings(toys=f"127.0.0.1:{house.port}"), ISSUER, "training")
    opened = connections.channel("toys", toy.FILE)
    for method in ("Make", "Watch", f"{toy.INTERNAL}.Ask"):
        with pytest.raises(errors.Unavailable):
            await toy.call(opened, method, toy.Toy(name="a", note=method), metadata=key(auth.Role.OWNER, "service"))
    await connections.close()
    assert calls == ["Make"] * 4 + ["Watch", f"{toy.INTERNAL}.Ask"]


@pytest.mark.parametrize("method", KINDS)
async def test_bytes_that_are_no_message_are_refused_without_a_traceback(house, method, caplog):
    streams_in, streams_out = toy.METHODS[method]
    kind = f"{'stream' if streams_in else 'unary'}_{'stream' if streams_out else 'unary'}"
    bad = b"\x0a\xff"  # a text of 255 bytes that does not come
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        call = getattr(house.channel, kind)(f"/{toy.SERVICE}/{method}")(
            iter([bad]) if streams_in else bad, metadata=key()
        )
        await (anext(aiter(call)) if streams_out else call)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(status_of(caught.value)) == "INVALID_MESSAGE"
    assert [record for record in caplog.records if record.exc_info] == []


async def test_large_messages_pass_and_too_large_ones_are_refused(house):
    note = "x" * (15 * 1024 * 1024)
    assert (await house.call("Make", toy.Toy(name="a", note=note)))[0].note == note
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await house.call("Make", toy.Toy(name="a", note=note + note))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("method", ["Make", "Watch"])
async def test_a_peers_error_arrives_as_the_class_that_was_raised(house, method):
    async def act(request: Any, context: Any) -> Any:
        raise errors.OverLimit("slowly", reason="QUOTA", retry_seconds=7)

    house.act = act
    async with channel(f"127.0.0.1:{house.port}", translate_errors=True) as translating:
        with pytest.raises(errors.OverLimit, match="slowly") as caught:
            await toy.call(translating, method, toy.Toy(name="a"), metadata=key())
        assert (caught.value.reason, caught.value.retry_seconds) == ("QUOTA", 7)
        house.act = house._echo
        assert (await toy.call(translating, method, toy.Toy(name="a"), metadata=key()))[-1].name == "a"


async def test_a_peer_that_is_away_is_unavailable():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        async with channel(address, translate_errors=True) as nobody:
            with pytest.raises(errors.Unavailable):
                await toy.call(nobody, "Make", toy.Toy(name="a"), metadata=key())


async def test_a_peers_raw_error_that_a_method_lets_through_keeps_its_code(house):
    async def act(request: Any, context: Any) -> Any:
        if request.note != "inner":
            await toy.call(house.channel, "Make", toy.Toy(name="a", note="inner"), metadata=key())
        raise errors.NotFound.of("toy", "b")

    house.act = act
    assert (await house.refusal("Make")).code == grpc.StatusCode.NOT_FOUND.value[0]


async def test_a_service_calls_for_a_project_and_names_the_key_behind_it():
    connections = Connections(Settings(), ISSUER, "training")
    with auth.acting_as(auth.Principal("proj-1", auth.Role.VIEWER, "key-7", "user", "key-7")):
        inside = _principal(connections.metadata("proj-1"))
        other = _principal(connections.metadata("proj-2"))
    assert inside == auth.Principal("proj-1", auth.Role.OWNER, "key-7", "service", "training")
    assert other == auth.Principal("proj-2", auth.Role.OWNER, "", "service", "training")


def _principal(metadata: Any) -> auth.Principal:
    return ISSUER.verify(dict(metadata)["authorization"].removeprefix("Bearer "))


def test_an_update_may_leave_out_what_a_create_must_have():
    from services.chassis.rpc import validate

    validate(toy.UpdateToy(toy=toy.Toy(note="new")))
    with pytest.raises(errors.Invalid) as caught:
        validate(toy.UpdateToy())
    assert caught.value.field == "toy"


async def test_a_service_has_one_channel_by_its_name():
    connections = Connections(Settings(), ISSUER, "training")
    assert connections.channel("toys", toy.FILE) is connections.channel("toys", toy.FILE)
    with pytest.raises(KeyError):
        connections.channel("tools", toy.FILE)
    await connections.close()
