"""The inference proxy: a request to a ready replica of what it names, and the answer passed through untouched.

A replica that cannot be reached is followed by another one. One that had the body and fails before its first byte is
followed by one other at most, and by none when it died: the body may be what kills. Once bytes are out, an error ends
the stream and never restarts it. When the client leaves, the engine's work is cancelled. Tokens are always
counted: running totals are asked for upstream, and hidden when the client did not ask for them. A plain call has none:
it goes on to its end, and is paid for, when its client leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import aiohttp
from aiohttp import web

from gateway import body
from gateway.admission import Admission, Claim
from gateway.balancing import prefix_of
from gateway.bounds import refuse_over
from gateway.context import REQUEST_ID, ClientLeft
from gateway.engine_refusals import refusal, refusal_event, refused_stream
from gateway.openai_messages import (
    BROKEN,
    Question,
    ask_for_usage,
    encode,
    parse,
    split_events,
)
from gateway.refusals import ModelNotFoundHere, NoReplica, ReplicaDied
from gateway.routes import CallTarget, RouteView
from gateway.tokens import Tokens
from gateway.usage import UsageJournal, UsageOf
from gateway.usage_segments import Line
from services.chassis.errors import Denied
from services.chassis.tasks import end_tasks
from services.clients.records import KeyRecord, ReplicaRecord

ATTACH_SECONDS = 10.0
"""How long a call waits for an adapter that is being attached."""
ANNOUNCE_SECONDS = 2.0
"""How long a call of a tuned name that no route knows waits for one: it may have been published a moment ago."""
CONNECT_SECONDS = 5.0
IDLE_SECONDS = 600.0
MOST_TRIES = 3
MOST_SENT = 2
"""How many replicas may get the body of one call."""
HOP_HEADERS = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server", "upgrade", "vary"}
)
ENGINE_CORS = "access-control-"
"""Headers by which an engine would let any web page in: who may is ours to say."""
TUNED = "ft:"
VERSION_HEADER = "x-modelry-model-version"
_RETRYABLE = (401, 502, 503, 504)
"""Faults of a replica. 401 is that of a secret between it and us, never the client's."""
_OWN = {"content-type": "application/json", "accept-encoding": "identity"}
"""Given by name: leaving out the HTTP client's own headers costs each call more than sending them."""


@dataclass
class Call:
    """One inference call on its way: whose, to what, with which body, and what it has used.

    `uncounted` says why `tokens` are not all that was spent, unless they are final; `broken_tries` have spent some too.
    `sent` counts the replicas that had its body and gave no answer.
    """

    whose: UsageOf
    target: CallTarget
    question: Question
    body: bytes
    claim: Claim
    tokens: Tokens
    noted: Line | None = None
    uncounted: str = ""
    broken_tries: int = 0
    sent: int = 0


class Proxy:
    """Sends calls to replicas. One for a gateway; keeps the connections and the count of calls in flight."""

    def __init__(self, routes: RouteView, usage: UsageJournal, admission: Admission) -> None:
        self._routes, self._usage, self.admission = routes, usage, admission
        self.uncounted, self.in_flight = usage.uncounted, admission.in_flight
        self._plain: set[asyncio.Task[web.StreamResponse]] = set()
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the connection pool."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=IDLE_SECONDS),
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Give up the calls that their clients left, and close the connection pool."""
        await end_tasks(*self._plain)
        if self._session is not None:
            await self._session.close()

    async def handle(self, request: web.Request, key: KeyRecord, project: str) -> web.StreamResponse:
        """Answer one inference request. Raises: ModelryError."""
        raw = await body.read(request, body.INFERENCE_BYTES)
        call = await self._prepare(raw, key, project)
        if call.question.stream:
            return await self._answer(request, call)
        answer = asyncio.create_task(self._answer(request, call))
        self._plain.add(answer)
        answer.add_done_callback(self._plain_ended)
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            if call.claim.waits:
                answer.cancel()
            raise

    def _plain_ended(self, answer: asyncio.Task[web.StreamResponse]) -> None:
        self._plain.discard(answer)
        if not answer.cancelled():
            answer.exception()  # nobody is told of it where the client left

    async def _answer(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Try replicas until one answers, and note what that used. Raises: ModelryError."""
        try:
            response = await self._try(request, call)
        except (asyncio.CancelledError, ClientLeft):
            call.uncounted = "left"
            raise
        finally:
            if call.noted is not None:
                ended = self._end(call)
        await ended  # what a replica answered was noted
        return response

    async def _try(self, request: web.Request, call: Call) -> web.StreamResponse:
        while len(call.claim.tried) < MOST_TRIES and call.sent < MOST_SENT:
            replica = await self.admission.place(call.claim)
            if replica is None:
                break
            try:
                call.noted = call.noted or self._usage.begin(call.whose, request[REQUEST_ID])
                response = await self._send(request, call, replica)
            finally:
                self.admission.give_back(call.claim, replica)
            if response is not None:
                return response
        raise NoReplica.of(call.target.route, f"No replica of {call.target.route.name!r} answers now; try again.")

    async def _prepare(self, raw: bytes, key: KeyRecord, project: str) -> Call:
        content = await body.parsed(raw, parse, raw)
        question = Question.of(content)
        name = question.model
        target = await self._resolve(project, name)
        route = target.route
        if not key.may_call(*target.names):
            raise Denied(f"This key may not call {name!r}.", reason="MODEL_NOT_ALLOWED", metadata={"param": "model"})
        refuse_over(content, question, route)
        if question.stream or name != target.engine_model:
            sent = {**content, "model": target.engine_model}
            raw = await body.off_loop(len(raw), encode, ask_for_usage(sent) if question.stream else sent)
        whose = UsageOf(project, key.key_id, route.deployment_id)
        claim = Claim(
            route.deployment_id,
            key.key_id,
            question.sequences,
            route.limits.sequences,
            prefix_of(content),
            partial(self._routes.replicas_of, route.deployment_id),
        )
        return Call(whose, target, question, raw, claim, Tokens(question.choices, question.prompts))

    async def _resolve(self, project: str, name: str) -> CallTarget:
        target = self._routes.resolve(project, name)
        if target is None and name.startswith(TUNED):
            target = await self._routes.wait_until_known(project, name, ANNOUNCE_SECONDS)
        if target is not None and not target.ready and name.startswith(TUNED):
            target = await self._routes.wait_until_ready(project, name, ATTACH_SECONDS)
        if target is None:
            raise ModelNotFoundHere.of(name)
        if not target.ready:
            words = f"The model {name!r} is deployed, and none of its replicas is ready. Try again soon."
            raise NoReplica.of(target.route, words)
        return target

    async def _send(self, request: web.Request, call: Call, replica: ReplicaRecord) -> web.StreamResponse | None:
        """Try one replica. None: it failed before its first byte, and another one may be tried."""
        assert self._session is not None, "start() opens the session"
        headers = {"x-request-id": request[REQUEST_ID], **_OWN, **_secret(replica)}
        url = f"http://{replica.address}{request.path}"
        try:
            async with self._session.post(url, data=call.body, headers=headers) as upstream:
                if upstream.status in _RETRYABLE:
                    call.sent += 1
                    return None
                call.uncounted = "broken" if upstream.status in (200, 500) else ""
                if call.question.stream and upstream.status == 200:
                    return await self._pass_stream(request, call, upstream)
                payload = await upstream.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            return None
        except (aiohttp.ClientError, TimeoutError) as error:
            call.broken_tries += 1
            call.sent += 1
            if not await self._lives(replica):
                raise ReplicaDied.of(call.target.route.name) from error
            return None
        if upstream.status >= 400:
            return _pass_error(request, upstream.status, payload)
        call.tokens.read_answer(payload)
        return web.Response(body=payload, headers=_headers(request, call, upstream.headers))

    async def _lives(self, replica: ReplicaRecord) -> bool:
        """Return whether a replica that broke off a call still answers: it may have closed an idle connection."""
        assert self._session is not None, "start() opens the session"
        url, soon = f"http://{replica.address}/health", aiohttp.ClientTimeout(total=CONNECT_SECONDS)
        with suppress(aiohttp.ClientError, TimeoutError):
            async with self._session.get(url, headers=_secret(replica), timeout=soon) as answer:
                return answer.status < 500
        return False

    async def _pass_stream(
        self, request: web.Request, call: Call, upstream: aiohttp.ClientResponse
    ) -> web.StreamResponse | None:
        """Pass a stream through. None: it broke before its first byte; later, it ends with an error event."""
        events = split_events(upstream.content.iter_any())
        event = await anext(events, b"")  # what breaks here is seen by the caller, who tries another replica
        early = refused_stream(event)
        if early is not None:  # an engine refuses some questions only in its stream, of which no byte is out yet
            call.uncounted = ""
            return _pass_error(request, *early)
        response = web.StreamResponse(headers=_headers(request, call, upstream.headers))
        done, last = False, BROKEN
        try:
            await response.prepare(request)
            while event:
                if refused := refusal_event(event):
                    last = refused
                    break
                shown = call.tokens.read_event(event, call.question.wants_usage, call.question.wants_totals)
                if event.startswith(b"data: [DONE]"):
                    done = True
                    await self._end(call)
                if shown:
                    await _write(response, shown)
                event = await anext(events, b"")
        except (aiohttp.ClientError, TimeoutError):
            done = False
        if not done:
            await self._end(call)
            await _write(response, last)
        await _write(response, b"", last=True)
        return response

    def _end(self, call: Call) -> Awaitable[None]:
        """Note what a call used; again changes nothing. Returns what is done when that is written."""
        assert call.noted is not None, "_try() began it"
        uncounted = "" if call.tokens.final else call.uncounted
        return self._usage.end(call.noted, call.tokens.items(), uncounted or ("broken" if call.broken_tries else ""))


async def _write(response: web.StreamResponse, data: bytes, last: bool = False) -> None:
    """Write to the client; its absence must not look like a broken upstream. Raises: ClientLeft."""
    try:
        await (response.write_eof(data) if last else response.write(data))
    except ConnectionResetError as error:
        raise ClientLeft from error


def _secret(replica: ReplicaRecord) -> dict[str, str]:
    return {"authorization": f"Bearer {replica.secret}"} if replica.secret else {}


def _headers(request: web.Request, call: Call, upstream: Mapping[str, str]) -> dict[str, str]:
    named = ((name, value, name.lower()) for name, value in upstream.items())
    kept = {name: value for name, value, low in named if low not in HOP_HEADERS and not low.startswith(ENGINE_CORS)}
    return {**kept, VERSION_HEADER: call.target.model_version_id, "x-request-id": request[REQUEST_ID]}


def _pass_error(request: web.Request, status: int, payload: bytes) -> web.Response:
    headers = {"x-request-id": request[REQUEST_ID]}
    if status <= 500:  # 500: it failed on this question, or died of it
        headers["x-should-retry"] = "false"
    body = encode(refusal(status, payload))
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


async def wait_for_calls(proxy: Proxy, seconds: float) -> None:
    """Wait until no call is in flight, or the time is over."""
    deadline = asyncio.get_running_loop().time() + seconds
    while (sum(proxy.in_flight.values()) or proxy.admission.waiting) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.05)
