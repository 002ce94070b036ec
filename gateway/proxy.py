"""The inference proxy: a request to a ready replica of what it names, and the answer passed through untouched.

A replica that cannot be reached, or refuses before its first byte, is followed by another one; once bytes are out, an
error ends the stream and never restarts it. When the client leaves, the engine's work is cancelled. Tokens are always
counted: usage is asked for upstream, and the extra chunk is hidden when the client did not ask for it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

from gateway import body
from gateway.balancing import choose, prefix_of
from gateway.context import REQUEST_ID
from gateway.openai_messages import (
    BROKEN,
    encode,
    is_usage_chunk,
    parse,
    prepare_stream,
    read_usage,
    refusal,
    split_events,
)
from gateway.routes import CallTarget, RouteView
from gateway.usage import UsageJournal, UsageOf
from services.chassis.errors import Denied, Invalid, NotFound, Unavailable
from services.clients.records import KeyRecord, ReplicaRecord

ATTACH_SECONDS = 10.0
"""How long a call waits for an adapter that is being attached."""
ANNOUNCE_SECONDS = 2.0
"""How long a call of a tuned name that no route knows waits for one: it may have been published a moment ago."""
CONNECT_SECONDS = 5.0
IDLE_SECONDS = 600.0
MOST_TRIES = 3
HOP_HEADERS = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server", "upgrade", "vary"}
)
ENGINE_CORS = "access-control-"
"""Headers by which an engine would let any web page in: who may is ours to say."""
TUNED = "ft:"
VERSION_HEADER = "x-modelry-model-version"
_RETRYABLE = (502, 503, 504)


@dataclass
class Call:
    """One inference call on its way: whose, to what, with which body."""

    whose: UsageOf
    target: CallTarget
    body: bytes
    prefix: str
    stream: bool
    wants_usage: bool


class Proxy:
    """Sends calls to replicas. One for a gateway; keeps the connections and the count of calls in flight."""

    def __init__(self, routes: RouteView, usage: UsageJournal) -> None:
        self._routes, self._usage = routes, usage
        self.in_flight: Counter[str] = Counter()
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the connection pool."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=IDLE_SECONDS),
            auto_decompress=False,
            skip_auto_headers={"User-Agent", "Accept", "Accept-Encoding"},
        )

    async def close(self) -> None:
        """Close the connection pool."""
        if self._session is not None:
            await self._session.close()

    async def handle(self, request: web.Request, key: KeyRecord, project: str) -> web.StreamResponse:
        """Answer one inference request. Raises: ModelryError."""
        call = await self._prepare(await body.read(request, body.INFERENCE_BYTES), key, project)
        tried: set[str] = set()
        while len(tried) < MOST_TRIES:
            replica = choose(call.target.route.replicas, self.in_flight, call.prefix, tried)
            if replica is None:
                break
            tried.add(replica.id)
            self.in_flight[replica.id] += 1
            try:
                response = await self._send(request, call, replica)
            finally:
                self.in_flight[replica.id] -= 1
            if response is not None:
                return response
        raise Unavailable(
            f"No replica of {call.target.route.name!r} answers now; try again.",
            reason="NO_REPLICA",
            retry_seconds=call.target.route.seconds_to_start(time.time()),
        )

    async def _prepare(self, raw: bytes, key: KeyRecord, project: str) -> Call:
        question = await body.parsed(raw, parse, raw)
        name = question.get("model")
        if not isinstance(name, str) or not name:
            raise Invalid("You must provide a model parameter.", field="model")
        target = await self._resolve(project, name)
        route = target.route
        if not key.may_call(name, route.name, route.deployment_id):
            raise Denied(f"This key may not call {name!r}.", reason="MODEL_NOT_ALLOWED", metadata={"param": "model"})
        stream = question.get("stream") is True
        wants_usage = prepare_stream(question) if stream else True
        unchanged = name == target.engine_model and wants_usage
        payload = (
            raw if unchanged else await body.off_loop(len(raw), encode, {**question, "model": target.engine_model})
        )
        whose = UsageOf(project, key.key_id, route.deployment_id)
        return Call(whose, target, payload, prefix_of(question), stream, wants_usage)

    async def _resolve(self, project: str, name: str) -> CallTarget:
        target = self._routes.resolve(project, name)
        if target is None and name.startswith(TUNED):
            target = await self._routes.wait_until_known(project, name, ANNOUNCE_SECONDS)
        if target is not None and not target.ready and name.startswith(TUNED):
            target = await self._routes.wait_until_ready(project, name, ATTACH_SECONDS)
        if target is None:
            raise ModelNotFoundHere.of(name)
        if not target.ready:
            raise Unavailable(
                f"The model {name!r} is deployed, and none of its replicas is ready. Try again soon.",
                reason="NO_REPLICA",
                retry_seconds=target.route.seconds_to_start(time.time()),
            )
        return target

    async def _send(self, request: web.Request, call: Call, replica: ReplicaRecord) -> web.StreamResponse | None:
        """Try one replica. None: it failed before its first byte, and another one may be tried."""
        assert self._session is not None, "start() opens the session"
        headers = {"content-type": "application/json", "x-request-id": request[REQUEST_ID]}
        if replica.secret:
            headers["authorization"] = f"Bearer {replica.secret}"
        url = f"http://{replica.address}{request.path}"
        try:
            async with self._session.post(url, data=call.body, headers=headers) as upstream:
                if upstream.status in _RETRYABLE:
                    return None
                if call.stream and upstream.status == 200:
                    return await self._pass_stream(request, call, upstream)
                payload = await upstream.read()
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError):
            return None
        if upstream.status >= 400:
            return _pass_error(request, upstream.status, payload)
        self._usage.count(call.whose, read_usage(payload))
        return web.Response(body=payload, headers=_headers(request, call, upstream.headers))

    async def _pass_stream(
        self, request: web.Request, call: Call, upstream: aiohttp.ClientResponse
    ) -> web.StreamResponse | None:
        """Pass a stream through. None: it broke before its first byte; later, it ends with an error event."""
        events = split_events(upstream.content.iter_any())
        try:
            first = await anext(events, b"")
        except (aiohttp.ClientError, TimeoutError):
            return None
        response = web.StreamResponse(headers=_headers(request, call, upstream.headers))
        usage: Mapping[str, Any] | None = None
        event, done = first, False
        try:
            await response.prepare(request)
            while event:
                if b'"usage":{' in event or b'"usage": {' in event:
                    usage = read_usage(event.removeprefix(b"data: ")) or usage
                done = done or event.startswith(b"data: [DONE]")
                if call.wants_usage or not is_usage_chunk(event):
                    await _write(response, event)
                event = await anext(events, b"")
        except (aiohttp.ClientError, TimeoutError):
            done = False
        finally:
            self._usage.count(call.whose, usage)
        if not done:
            await _write(response, BROKEN)
        await response.write_eof()
        return response


class ClientLeft(Exception):
    """The client closed its connection: there is nobody to answer."""


async def _write(response: web.StreamResponse, data: bytes) -> None:
    """Write to the client; its absence must not look like a broken upstream. Raises: ClientLeft."""
    try:
        await response.write(data)
    except ConnectionResetError as error:
        raise ClientLeft from error


class ModelNotFoundHere(NotFound):
    """Nothing that the key can call has this name."""

    @classmethod
    def of(cls, name: str) -> ModelNotFoundHere:  # type: ignore[override]
        """Return the sentence, for an `ft:` name with the command that would host it."""
        hint = "GET /v1/models lists what can be called."
        if name.startswith("ft:"):
            hint = f"Nothing hosts it; `modelry deployments create --model {name}` would."
        return cls(
            f"The model {name!r} does not exist or you do not have access to it. {hint}",
            reason="MODEL_NOT_FOUND",
            metadata={"param": "model"},
        )


def _headers(request: web.Request, call: Call, upstream: Mapping[str, str]) -> dict[str, str]:
    named = ((name, value, name.lower()) for name, value in upstream.items())
    kept = {name: value for name, value, low in named if low not in HOP_HEADERS and not low.startswith(ENGINE_CORS)}
    kept[VERSION_HEADER] = call.target.model_version_id
    kept["x-request-id"] = request[REQUEST_ID]
    return kept


def _pass_error(request: web.Request, status: int, payload: bytes) -> web.Response:
    headers = {"x-request-id": request[REQUEST_ID], **({"x-should-retry": "false"} if status < 500 else {})}
    body = encode(refusal(status, payload))
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


async def wait_for_calls(proxy: Proxy, seconds: float) -> None:
    """Wait until no call is in flight, or the time is over."""
    deadline = asyncio.get_running_loop().time() + seconds
    while sum(proxy.in_flight.values()) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.05)
