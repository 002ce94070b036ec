"""2,000 requests that nobody sane sends, at the HTTP door: whatever they hold, it is not the gateway's fault."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from modelry.api_methods import AREAS, SERVED_BY, methods
from services.chassis.rpc import OPENED
from tests.integration.gateway.world import SECRET, edge
from tests.mutations import requests

pytestmark = pytest.mark.integration

COUNT, SEED = 2000, 7
STREAMS = {method.path for method in methods() if method.server_streaming}
UPLOADS = {method.path for method in methods() if method.client_streaming}


class Anything(grpc.GenericRpcHandler):
    """Every service at once: it answers every method with an empty message, a stream with none."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of any method."""

        async def answer(requests: AsyncIterator[bytes], call: Any) -> None:
            if handler_call_details.method in UPLOADS:
                await call.send_initial_metadata(((OPENED, "1"),))
            async for _ in requests:
                pass
            if handler_call_details.method not in STREAMS:
                await call.write(b"")

        return grpc.stream_stream_rpc_method_handler(answer)


async def test_no_request_is_an_error_of_the_door(tmp_path: Path) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Anything(),))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    seen: set[int] = set()
    try:
        async with edge(tmp_path, None, addresses={SERVED_BY.get(area, area): address for area in AREAS}) as gateway:
            for number, request in enumerate(requests(COUNT, SEED, f"Bearer {SECRET}")):
                reader, writer = await asyncio.open_connection(gateway.client.host, gateway.client.port)
                writer.write(request)
                async with asyncio.timeout(30):
                    answer = await reader.read()
                writer.close()
                status = int(answer[9:12])
                assert status < 500, (number, request[:2000], answer)
                seen.add(status)
    finally:
        await server.stop(None)
    assert {200, 400, 404} <= seen
