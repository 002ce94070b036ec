"""A gateway in this process, in front of engines and services that a test scripts: the edge alone, on real sockets."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.addresses import Places, TrustedProxies
from gateway.administration import Administration
from gateway.admission import Admission
from gateway.app import build_app
from gateway.authentication import Authenticator
from gateway.channels import open_channels
from gateway.connections import Bounds, DoorRunner
from gateway.context import Channels
from gateway.grpc_bounds import Callers, server_options
from gateway.grpc_proxy import GrpcProxy, open_grpc_proxy
from gateway.keys import KeyRing
from gateway.native import KEEP_ALIVE_SECONDS, NativeApi
from gateway.openai import OpenAiApi
from gateway.proxy import Proxy
from gateway.routes import RouteView
from gateway.settings import GatewaySettings
from gateway.tls import Certificate
from gateway.usage import UsageJournal
from gateway.usage_segments import read_lines, sums
from gateway.watches import Watches
from services.chassis.auth import TokenIssuer
from services.clients.fakes.billing import FakeBilling

SECRET = "mk-of-a-test"
AUTHORIZATION = {"authorization": f"Bearer {SECRET}"}
TOKEN_SECRET = "a-secret-of-the-tests-of-32-bytes"
PROJECT = "proj-test"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Engine:
    """An engine whose answers a test writes; it notes every call and whether its client left it."""

    def __init__(self, answer: Handler) -> None:
        self._answer = answer
        self.bodies: list[dict[str, Any]] = []
        self.left = asyncio.Event()
        app = web.Application()
        app.router.add_post("/v1/{rest:.*}", self._handle)
        self.server = TestServer(app, handler_cancellation=True)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        try:
            return await self._answer(request)
        except (asyncio.CancelledError, ConnectionResetError):
            self.left.set()
            raise

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{self.server.host}:{self.server.port}"


def streams(*pieces: bytes, then: Callable[[web.StreamResponse], Awaitable[None]] | None = None) -> Handler:
    """An engine's streamed answer in exactly these writes; `then` happens instead of its orderly end."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0)
        if then is not None:
            await then(response)
            return response
        await response.write_eof()
        return response

    return answer


def answers(body: Mapping[str, Any], status: int = 200) -> Handler:
    """An engine's plain answer."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=status)

    return answer


class Door(TestServer):
    """The gateway's HTTP door on a port of its own."""

    def __init__(self, app: web.Application, host: str, *bounds: Any) -> None:
        super().__init__(app, host=host)
        self._bounds = bounds

    async def _make_runner(self, **kwargs: Any) -> DoorRunner:
        return DoorRunner(self.app, *self._bounds)


async def cut(response: web.StreamResponse) -> None:
    """The engine dies in the middle of its answer."""
    transport = response._req.transport if response._req is not None else None
    assert transport is not None
    transport.abort()


class Away(FakeBilling):
    """Billing that does not answer, so that what is counted stays in the journal."""

    def __init__(self) -> None:
        super().__init__()
        self.away.add("record_usage")


def counted(folder: Path) -> dict[str, int]:
    """The tokens that a journal in this folder holds, by item."""
    names = [line for path in (folder / "usage").glob("usage-*.jsonl") for line in read_lines(path)]
    return dict(sum(sums(names).values(), Counter()))


@dataclass
class Edge:
    """The gateway under test, and what it is made of."""

    client: TestClient[Any, Any]
    keys: KeyRing
    routes: RouteView
    proxy: Proxy
    usage: UsageJournal
    authenticator: Authenticator
    administration: Administration
    channels: Channels
    watches: Watches
    bounds: Bounds
    places: Places
    proxies: TrustedProxies
    most_connections: int
    version: int = field(default=0)

    async def open_grpc(
        self, channels: Channels | None = None, listen: str = "127.0.0.1:0", certificate: Certificate | None = None
    ) -> tuple[Any, int]:
        """Open the gRPC door. Returns: its server and port."""
        callers = Callers(self.places, self.proxies, self.bounds)
        parts = (channels or self.channels, self.administration, self.watches, callers)
        proxy = GrpcProxy(self.authenticator, *parts)
        options, tls = server_options(self.bounds, self.most_connections), certificate.grpc if certificate else None
        return await open_grpc_proxy(listen, proxy, options, tls)

    def route(self, *engines: Engine, **changes: Any) -> None:
        """The deployment `help`, on these engines."""
        self.version += 1
        replicas = [{"id": f"rep-{n}", "address": engine.address} for n, engine in enumerate(engines)]
        record = {"deployment_id": "dep-1", "project": PROJECT, "name": "help", "version": self.version}
        self.routes.apply(
            "dep-1", {**record, "model_version_id": "mv-1", "engine_model": "help", "replicas": replicas, **changes}
        )


def known_key() -> KeyRing:
    """One developer's key."""
    keys = KeyRing()
    key = {"key_id": "key-1", "project": PROJECT, "role": "DEVELOPER", "state": "ACTIVE", "version": 1}
    keys.apply(hashlib.sha256(SECRET.encode()).hexdigest(), key)
    return keys


@asynccontextmanager
async def edge(
    folder: Path,
    billing: Any,
    *engines: Engine,
    addresses: Mapping[str, str] | None = None,
    pause_seconds: float = KEEP_ALIVE_SECONDS,
    token_secret: str = TOKEN_SECRET,
    bounds: Bounds | None = None,
    host: str = "127.0.0.1",
    certificate: Certificate | None = None,
    **settings: Any,
) -> AsyncIterator[Edge]:
    """A gateway with these settings in front of engines (and of services at `addresses`), with one developer's key."""
    keys, routes, issuer, chosen = known_key(), RouteView(), TokenIssuer(token_secret), GatewaySettings(**settings)
    usage = UsageJournal(folder, Away() if billing is None else billing)
    await usage.start()
    proxy, authenticator = Proxy(routes, usage, Admission(chosen.wait_seconds)), Authenticator(keys, issuer, billing)
    administration = Administration({}, keys, (certificate,) if certificate else (), issuer)
    channels = open_channels(addresses or {}, creates=True)
    watches = Watches(keys, chosen.most_watches, chosen.most_watches_per_key)
    native = NativeApi(authenticator, channels, administration, watches, pause_seconds)
    app = build_app(native, OpenAiApi(authenticator, routes, proxy), proxy, administration, chosen.cors_origins)
    for engine in engines:
        await engine.server.start_server()
    await proxy.start()
    places = Places(chosen.most_connections, chosen.most_connections_per_address)
    guards = bounds or Bounds(), places, TrustedProxies(chosen.trusted_proxies)
    client: TestClient[Any, Any] = TestClient(Door(app, host, *guards))
    await client.server.start_server(ssl=certificate.http if certificate else None)
    parts = (proxy, usage, authenticator, administration, channels, watches)
    made = Edge(client, keys, routes, *parts, *guards, chosen.most_connections)
    made.route(*engines)
    try:
        yield made
    finally:
        for closing in (client.close, proxy.close, usage.stop):
            await closing()
        for channel in channels.values():
            await channel.close()
        for engine in engines:
            await engine.server.close()
