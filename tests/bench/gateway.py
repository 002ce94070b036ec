"""CPU of the gateway for a request, beside a bare aiohttp pass-through, at a replica that answers at once.

Each part is a process of its own (`python -m tests.bench.gateway ROLE`): the replica, the server under load, and this
one, which sends the load. A real engine would take the cores that are measured.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import uvloop
from aiohttp import web

from deploy.local.files import choose_port
from gateway.addresses import Places, TrustedProxies
from gateway.admission import Admission
from gateway.app import build_app
from gateway.authentication import Authenticator
from gateway.connections import Bounds, DoorRunner
from gateway.keys import KeyRing
from gateway.openai import OpenAiApi
from gateway.paths import INFERENCE
from gateway.proxy import Proxy
from gateway.routes import RouteView
from gateway.usage import UsageJournal
from services.clients.fakes.billing import FakeBilling
from tests.bench.http_load import Load, request_bytes
from tests.bench.processes import cpu_seconds

KEY, PATH = "mk-bench", INFERENCE[0]
CONNECTIONS, WARM_UP, CALLS, TURNS = 16, 2_000, 10_000, 3
ROLES = ("gateway", "reference")
QUESTION = json.dumps({"model": "base", "messages": [{"role": "user", "content": "Say number 3"}]}).encode()
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "base",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Three."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15},
    }
).encode()


def run() -> dict[str, float]:
    """Microseconds of CPU for a request, of the gateway and of the reference, and the median ratio of the turns."""
    replica = choose_port()
    found: dict[str, list[float]] = {role: [] for role in ROLES}
    with Part("replica", replica, replica):
        for _ in range(TURNS):
            for role in ROLES:
                found[role].append(asyncio.run(_measure(role, replica)))
    ours, reference = (found[role] for role in ROLES)
    return {
        "gateway CPU per request, µs": statistics.median(ours),
        "bare aiohttp pass-through, µs": statistics.median(reference),
        "gateway CPU per request, ratio to a pass-through": statistics.median(
            a / b for a, b in zip(ours, reference, strict=True)
        ),
    }


async def _measure(role: str, replica: int) -> float:
    port = choose_port()
    question = request_bytes("POST", PATH, {"authorization": f"Bearer {KEY}"}, QUESTION)
    with Part(role, port, replica) as process:
        load = Load("127.0.0.1", port, CONNECTIONS)
        await load.send(WARM_UP, lambda _connection, _call: question)
        measured = psutil.Process(process.pid)
        before = cpu_seconds(measured)
        await load.send(CALLS, lambda _connection, _call: question)
        return (cpu_seconds(measured) - before) / CALLS * 1e6


class Part:
    """A role in a process of its own, ready when it is entered, ended afterwards."""

    def __init__(self, role: str, port: int, replica: int) -> None:
        words = [sys.executable, "-m", "tests.bench.gateway", role, str(port), str(replica)]
        self._folder = tempfile.TemporaryDirectory()
        environment = {**os.environ, "TMPDIR": self._folder.name}
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, env=environment)

    def __enter__(self) -> subprocess.Popen[bytes]:
        assert self._process.stdout is not None and self._process.stdout.readline() == b"ready\n"
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()


class Replica(asyncio.Protocol):
    """Answers every request with the same words."""

    response = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(ANSWER)}\r\n\r\n".encode()

    def connection_made(self, transport: Any) -> None:
        """Keep it."""
        self._transport, self._seen = transport, b""

    def data_received(self, data: bytes) -> None:
        """Answer once the question is whole."""
        self._seen += data
        if self._seen.endswith(QUESTION):
            self._seen = b""
            self._transport.write(self.response + ANSWER)


async def _serve_replica(port: int, _: int) -> None:
    await asyncio.get_running_loop().create_server(Replica, "127.0.0.1", port)


async def _serve_gateway(port: int, replica: int) -> None:
    keys, routes = KeyRing(), RouteView()
    key = {"key_id": "key-1", "project": "p", "role": "INFERENCE", "state": "ACTIVE", "version": 1, "models": ["*"]}
    keys.apply(hashlib.sha256(KEY.encode()).hexdigest(), key)
    engine = {"id": "rep-1", "address": f"127.0.0.1:{replica}", "secret": "s"}
    route = {"deployment_id": "dep-1", "project": "p", "name": "base", "version": 1, "replicas": [engine]}
    routes.apply("dep-1", route)
    nothing: Any = _Nothing()
    usage = UsageJournal(Path(tempfile.gettempdir()), FakeBilling())
    await usage.start()
    proxy = Proxy(routes, usage, Admission(60))
    await proxy.start()
    openai = OpenAiApi(Authenticator(keys, nothing, nothing), routes, proxy)
    app = build_app(nothing, openai, proxy, nothing)
    await _listen(DoorRunner(app, Bounds(), Places(1000, 1000), TrustedProxies()), port)


async def _serve_reference(port: int, replica: int) -> None:
    """The least that a gateway can do with aiohttp: check a key and pass the bytes on."""
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)
    known = {hashlib.sha256(KEY.encode()).hexdigest()}

    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        if hashlib.sha256(request.headers["authorization"][7:].encode()).hexdigest() not in known:
            raise web.HTTPUnauthorized
        async with session.post(f"http://127.0.0.1:{replica}{PATH}", data=body) as answer:
            return web.Response(body=await answer.read(), content_type="application/json")

    app = web.Application()
    app.router.add_post(PATH, handle)
    await _listen(web.AppRunner(app, handler_cancellation=True, access_log=None), port)


async def _listen(runner: web.AppRunner, port: int) -> None:
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()


class _Nothing:
    """Stands where a part is that inference does not use."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Nothing is here."""
        raise web.HTTPNotFound

    readyz = handle


async def _serve(role: str, port: int, replica: int) -> None:
    await {"replica": _serve_replica, "gateway": _serve_gateway, "reference": _serve_reference}[role](port, replica)
    print("ready", flush=True)
    begun = time.monotonic()
    while time.monotonic() - begun < 300:  # a bench that was killed leaves nothing behind for long
        await asyncio.sleep(5)


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
