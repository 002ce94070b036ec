"""Is it ready? One question per kind of process; none of them raises."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable

from deploy.local.files import LOOPBACK

SECONDS = 2.0
Check = Callable[[], Awaitable[bool]]


def http_check(url: str, *, below: int = 400) -> Check:
    """Ready when the address answers with a status below `below`."""
    return lambda: asyncio.to_thread(_answers, url, below)


def _answers(url: str, below: int) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:  # noqa: S310 - our own loopback address
            return int(answer.status) < below
    except urllib.error.HTTPError as error:
        return error.code < below
    except (OSError, ValueError):
        return False


def grpc_check(port: int) -> Check:
    """Ready when the standard health service of that port says SERVING."""

    async def check() -> bool:
        import grpc  # here: the commands that need no gRPC start faster without it
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        async with grpc.aio.insecure_channel(f"{LOOPBACK}:{port}") as channel:
            try:
                stub = health_pb2_grpc.HealthStub(channel)
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
            except grpc.aio.AioRpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    return check
