"""Clients of the native door that leave in the middle of an answer: nothing is wrong with the gateway then."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from tests.integration.gateway.test_native import scripted
from tests.integration.gateway.world import SECRET

pytestmark = pytest.mark.integration


async def test_a_watcher_that_leaves_as_its_stream_ends_is_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    request = f"GET /api/v1/jobs/ftjob-1:watch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\n\r\n"

    def leave(port: int) -> None:
        for _ in range(200):
            with socket.create_connection(("127.0.0.1", port), 30) as connection:
                connection.sendall(request.encode())
                connection.recv(1)

    async with scripted(tmp_path) as (gateway, training):
        training.more.set()
        await asyncio.to_thread(leave, gateway.client.port or 0)
        async with gateway.client.get("/metrics") as response:
            assert 'status="500"' not in await response.text()
    assert "Traceback" not in caplog.text
