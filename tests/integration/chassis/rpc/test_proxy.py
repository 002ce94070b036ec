"""A proxy variable, as companies set it on every machine: processes of ours talk to each other without it."""

import asyncio
import urllib.request
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from deploy.local.health import answers, grpc_check
from deploy.local.testing import RealObjects
from modelry.client import Client
from modelry.connection import NotReachable, find_connection
from services.chassis.probes import StoreProbe
from services.chassis.rpc import channel, plain_channel

pytestmark = pytest.mark.integration

NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens at the proxy, and nothing is exempt from it."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, NOBODY)
        monkeypatch.setenv(name.upper(), NOBODY)
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # it was made, with the proxies of then, at its first use


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A gRPC server that says that it serves."""
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    number = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield number
    await server.stop(None)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("kind", [channel, plain_channel])
async def test_services_call_each_other(port, kind, host):
    opened = kind(f"{host}:{port}")
    answer = await health_pb2_grpc.HealthStub(opened).Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    await opened.close()


async def test_the_supervisor_sees_who_is_ready(port, s3_server: RealObjects):
    assert await grpc_check(port)()
    assert await asyncio.to_thread(answers, s3_server.url, 500)


async def test_a_service_sees_that_its_store_answers(s3_server: RealObjects):
    probe = StoreProbe(s3_server.url, 3600)
    await probe._look()
    assert probe.degraded() == []


async def test_a_client_asks_a_gateway_on_this_machine(port, s3_server: RealObjects, tmp_path):
    """The store plays the gateway: it knows no such key, and that is an answer."""
    with pytest.raises(NotReachable, match="refuses the key"):
        await asyncio.to_thread(find_connection, s3_server.url, "mk-key")
    (tmp_path / "state.json").write_text(
        f'{{"addresses": {{"http": "http://127.0.0.1:{port}", "grpc": "127.0.0.1:{port}"}}}}'
    )
    (tmp_path / "admin.key").write_text("mk-key")
    with Client(home=str(tmp_path)) as client:
        stub = health_pb2_grpc.HealthStub(client._channel)
        answer = await asyncio.to_thread(stub.Check, health_pb2.HealthCheckRequest(), timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
