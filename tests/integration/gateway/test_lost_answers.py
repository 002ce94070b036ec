"""Every public method, at both doors, when its service does the work and its answer is lost: one resource."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.channels import open_channels
from modelry.api_methods import EVERY_SERVICE, SERVICES, Method, methods
from services.chassis.rpc import OPENED
from tests.integration.gateway.world import AUTHORIZATION, PROJECT, SECRET, Edge, edge
from tests.losing_relay import DATA, HEADERS, LosingRelay, losing_relay

pytestmark = pytest.mark.integration

# The gateway answers the others itself, of what every service says.
METHODS = {method.path: method for method in methods() if method.process != EVERY_SERVICE}


class Services(grpc.GenericRpcHandler):
    """All services in one: each call leaves one effect; calls with the same request id leave one together."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = defaultdict(int)
        self.effects: dict[str, set[str]] = defaultdict(set)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of any method."""
        path = handler_call_details.method
        method = METHODS[path]

        async def answer(requests: AsyncIterator[bytes], call: Any) -> None:
            if method.client_streaming:
                await call.send_initial_metadata(((OPENED, "1"),))
            parts = [part async for part in requests]
            request: Any = method.request.FromString(parts[0])
            self.calls[path] += 1
            self.effects[path].add(getattr(request, "request_id", "") or f"call {self.calls[path]}")
            await call.write(method.response().SerializeToString())

        return grpc.stream_stream_rpc_method_handler(answer)


@asynccontextmanager
async def services() -> AsyncIterator[tuple[Services, str]]:
    """The services, and where they listen."""
    handler, server = Services(), grpc.aio.server()
    server.add_generic_rpc_handlers((handler,))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield handler, address
    finally:
        await server.stop(None)


@asynccontextmanager
async def admins_edge(folder: Path, address: str) -> AsyncIterator[Edge]:
    """A gateway whose one key may do all."""
    async with edge(folder, None, addresses=dict.fromkeys(SERVICES, address)) as gateway:
        key = {"key_id": "key-1", "project": PROJECT, "role": "ADMIN", "state": "ACTIVE", "version": 2}
        gateway.keys.apply(hashlib.sha256(SECRET.encode()).hexdigest(), key)
        yield gateway


def relay_of(address: str, method: Method) -> AbstractAsyncContextManager[LosingRelay]:
    """A relay that loses what a method's work ends with: headers say of an upload only that it may begin."""
    return losing_relay(address, DATA if method.client_streaming else HEADERS)


async def over_http(folder: Path, address: str, method: Method) -> bool:
    """Call a method through a relay that loses its first answer; whether it was answered all the same."""
    async with relay_of(address, method) as relay, admins_edge(folder / method.name, relay.address) as gateway:
        path = re.sub(r"\{[^}]*\}", "x", method.template)
        content: dict[str, Any] = {"json": {}} if method.body else {}
        if method.client_streaming:
            path, content = f"{path}?filename=rows.jsonl", {"data": b"{}"}
        async with gateway.client.request(method.verb, path, headers=AUTHORIZATION, **content) as response:
            await response.read()
        assert relay.lost == 1
        assert response.status in (200, 503), method.name
        return response.status == 200


async def over_grpc(folder: Path, address: str, method: Method) -> bool:
    """The same through the gRPC door."""
    async with relay_of(address, method) as relay, admins_edge(folder / method.name, relay.address) as gateway:
        channels = open_channels(dict.fromkeys(SERVICES, relay.address), creates=False)
        server, port = await gateway.open_grpc(channels)
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
                call = opened.stream_stream(method.path)(iter([b""]), metadata=tuple(AUTHORIZATION.items()))
                with suppress(grpc.aio.AioRpcError):
                    await call.read()
                code = await call.code()
        finally:
            await server.stop(None)
            for channel in channels.values():
                await channel.close()
        assert relay.lost == 1
        assert code in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE), method.name
        return code is grpc.StatusCode.OK


@pytest.mark.parametrize("door", [over_http, over_grpc])
async def test_an_answer_that_is_lost_after_the_commit_makes_nothing_twice(door: Any, tmp_path: Path) -> None:
    async with services() as (done, address):
        answers = await asyncio.gather(*(door(tmp_path, address, method) for method in METHODS.values()))
    for method, answered in zip(METHODS.values(), answers, strict=True):
        created = method.creates and not method.client_streaming  # nobody keeps an upload to send it again
        repeated = method.repeatable or (created and door is over_http)
        assert (answered, done.calls[method.path]) == (repeated, 2 if repeated else 1), method.name
        assert method.repeatable or len(done.effects[method.path]) == 1, method.name
