"""Is it ready, and what does it lack? One question per kind of process; none of them raises."""

import asyncio
import json
import ssl
import urllib.error
from collections.abc import Awaitable, Callable
from typing import Any

from deploy.local.files import LOOPBACK
from deploy.local.home import Home
from services.chassis.direct import GRPC_DIRECT, open_direct

SECONDS = 2.0
Check = Callable[[], Awaitable[bool]]
AskLacks = Callable[[], Awaitable[dict[str, Any] | None]]
# Our own gateway on this machine, asked without a key: whatever name its certificate has, nothing can leak.
ANY_CERTIFICATE = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
ANY_CERTIFICATE.check_hostname, ANY_CERTIFICATE.verify_mode = False, ssl.CERT_NONE
NO_LACKS: dict[str, Any] = {"cannot_answer": [], "degraded": [], "dead_letter_count": None}


def http_check(url: str, *, below: int = 400) -> Check:
    """Ready when the address answers with a status below `below`."""
    return lambda: asyncio.to_thread(answers, url, below)


def answers(url: str, below: int) -> bool:
    """Return whether an HTTP server answers with a status below `below`."""
    try:
        with open_direct(url, SECONDS, ANY_CERTIFICATE) as answer:
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

        async with grpc.aio.insecure_channel(f"{LOOPBACK}:{port}", options=[GRPC_DIRECT]) as channel:
            try:
                stub = health_pb2_grpc.HealthStub(channel)
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
            except grpc.aio.AioRpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    return check


def grpc_lacks(home: Home, port: int) -> AskLacks:
    """Return what a service says that it lacks, as its `ServiceHealth` in JSON; None when it does not answer."""

    async def ask() -> dict[str, Any] | None:
        import grpc

        from modelry.admin.v1 import admin_pb2, admin_pb2_grpc
        from services.chassis.auth import Principal, Role, TokenIssuer

        caller = Principal("", Role.ADMIN, "", "service", "status")
        token = TokenIssuer(home.secret("token_secret")).issue(caller)
        async with grpc.aio.insecure_channel(f"{LOOPBACK}:{port}", options=[GRPC_DIRECT]) as channel:
            stub: Any = admin_pb2_grpc.AdminServiceStub(channel)
            metadata = (("authorization", f"Bearer {token}"),)
            try:
                answer = await stub.GetHealth(admin_pb2.GetHealthRequest(), metadata=metadata, timeout=SECONDS)
            except grpc.aio.AioRpcError:
                return None
        said = answer.services[0]
        count = said.dead_letter_count if said.HasField("dead_letter_count") else None
        lists = {"cannot_answer": list(map(_lack, said.cannot_answer)), "degraded": list(map(_lack, said.degraded))}
        return {**lists, "dead_letter_count": count}

    return ask


def _lack(lack: Any) -> dict[str, str]:
    return {"name": lack.name, "message": lack.message, "since_time": lack.since_time.ToJsonString()}


def http_lacks(address: str) -> AskLacks:
    """Return what the gateway itself lacks, from its `/readyz`."""
    return lambda: asyncio.to_thread(_gateway_lacks, f"{address}/readyz")


def _gateway_lacks(url: str) -> dict[str, Any] | None:
    try:
        with open_direct(url, 2 * SECONDS, ANY_CERTIFICATE) as answer:
            said = json.load(answer)
    except urllib.error.HTTPError as error:
        said = json.loads(error.read() or b"{}")
    except (OSError, ValueError):
        return None
    lists = ("cannot_answer", "degraded")
    own = {word: [lack for lack in said.get(word, []) if lack["service"] == "gateway"] for word in lists}
    return {**NO_LACKS, **own}
