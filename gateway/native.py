"""The native API over HTTP: `/api/v1`, through the transcoder, to the service that answers."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Any

import grpc
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.web_protocol import RequestPayloadError
from google.protobuf.message import Message

from gateway import body, errors, transcoder
from gateway.administration import Administration
from gateway.authentication import Authenticator
from gateway.context import ADDRESS, REQUEST_ID, Channels, ClientLeft, Metadata, refuse_repeated
from gateway.uploads import send_all
from gateway.watches import Watches
from modelry.api_methods import EVERY_SERVICE, Method
from modelry.codec import encode
from services.chassis import telemetry
from services.chassis.auth import Role
from services.chassis.errors import Invalid, ModelryError, PreconditionFailed, TooLarge, from_rpc_error
from services.chassis.rpc import OPENED

KEEP_ALIVE_SECONDS = 15.0
UNARY_SECONDS = 30.0
CHUNK_BYTES = 1 << 20
FIELD_BYTES = 64 << 10
"""The most of one field of a form beside its file."""
EVENT_HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class NativeApi:
    """Turns a request into a gRPC call with the caller's token, and the answer into JSON, events or bytes."""

    def __init__(
        self,
        authenticator: Authenticator,
        channels: Channels,
        administration: Administration,
        watches: Watches,
        pause_seconds: float = KEEP_ALIVE_SECONDS,
    ) -> None:
        """A stream gets a comment whenever nothing came for `pause_seconds`."""
        self._pause_seconds, self._watches = pause_seconds, watches
        self._authenticator, self._channels, self._administration = authenticator, channels, administration
        self._stubs: dict[tuple[str, str], Any] = {}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request. Raises: ModelryError."""
        verb = "GET" if request.method == "HEAD" else request.method  # the same answer; the server drops its body
        method, variables = transcoder.find(verb, request.rel_url.raw_path)
        refuse_repeated(name for name, _ in request.headers.items())
        principal = await self._authenticator.principal(request.headers, request[ADDRESS], Role[method.role])
        trace: dict[str, str] = {}
        telemetry.inject(trace)
        metadata = self._authenticator.metadata(principal, request[REQUEST_ID], trace.items())
        try:
            if method.client_streaming:
                return await self._upload(request, method, metadata)
            query = {key: request.query.getall(key) for key in request.query}
            raw = await body.read(request, body.NATIVE_BYTES)
            message = await body.parsed(raw, transcoder.read_request, method, variables, query, raw, request.headers)
            if method.raw:
                return await self._download(request, method, message, metadata)
            if method.server_streaming:
                return await self._events(request, method, message, metadata, principal.key_id)
            if method.process == EVERY_SERVICE:
                return await _json(await self._administration.call(method.name, message, principal, metadata))
            call = self._stub(method, "unary_unary")
            return await _json(await call(message, metadata=metadata, timeout=UNARY_SECONDS))
        except grpc.aio.AioRpcError as error:
            raise _refusal(error, request) from error
        except ConnectionResetError as error:
            raise ClientLeft from error

    def _stub(self, method: Method, kind: str) -> Any:
        if (kind, method.path) not in self._stubs:
            self._stubs[kind, method.path] = getattr(self._channels[method.process], kind)(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
        return self._stubs[kind, method.path]

    async def _events(
        self, request: web.Request, method: Method, message: Message, metadata: Metadata, key_id: str
    ) -> web.StreamResponse:
        """Stream messages as server-sent events, for as long as the key may watch.

        What is refused is still a plain error while nothing was sent.
        """
        response = web.StreamResponse(headers={**EVENT_HEADERS, "x-request-id": request[REQUEST_ID]})
        check = partial(self._authenticator.key, request.headers, request[ADDRESS])
        try:
            async with self._watches.open(key_id, check):
                await self._pass_events(
                    request, response, self._stub(method, "unary_stream")(message, metadata=metadata)
                )
        except (grpc.aio.AioRpcError, ModelryError) as error:
            if not response.prepared:
                raise
            refused = error if isinstance(error, ModelryError) else from_rpc_error(error)
            broken = errors.wrap(refused, request.path, request[REQUEST_ID])
            await response.write(b"event: error\ndata: " + _dump(broken.body) + b"\n\n")
        await response.write_eof()
        return response

    async def _pass_events(self, request: web.Request, response: web.StreamResponse, call: Any) -> None:
        """Pass the messages of a call; headers and a comment go out when the service says that the stream stands, or
        with its first message."""
        first = asyncio.ensure_future(call.read())
        try:
            if OPENED not in dict(await call.initial_metadata()):
                await first
            await response.prepare(request)
            if request.method == "HEAD":
                return
            await response.write(b": ok\n\n")
            async with aclosing(_with_pauses(call, first, self._pause_seconds)) as messages:
                async for item in messages:
                    await response.write(_event(item))
        finally:
            first.cancel()
            call.cancel()

    async def _download(
        self, request: web.Request, method: Method, message: Message, metadata: Metadata
    ) -> web.StreamResponse:
        call = self._stub(method, "unary_stream")(message, metadata=metadata)
        try:
            first = await call.read()
            response = web.StreamResponse(headers={"x-request-id": request[REQUEST_ID]})
            response.content_type = (first is not grpc.aio.EOF and first.content_type) or "application/octet-stream"
            await response.prepare(request)
            part: Any = first if request.method != "HEAD" else grpc.aio.EOF
            while part is not grpc.aio.EOF:
                await response.write(part.data)
                part = await call.read()
        finally:
            call.cancel()
        await response.write_eof()
        return response

    async def _upload(self, request: web.Request, method: Method, metadata: Metadata) -> web.StreamResponse:
        query = {key: request.query.getall(key) for key in request.query}
        await body.open_body(request, body.UPLOAD_BYTES)
        try:
            head, source = await _open_upload(request, method, query)
        except (ValueError, AssertionError, BadHttpMessage, RequestPayloadError) as error:
            raise Invalid("The form cannot be read: it is no multipart/form-data.", field="body") from error
        call = self._stub(method, "stream_unary")(metadata=metadata)
        try:
            await send_all(_requests(method, head, source), call)
            return await _json(await call)
        except RequestPayloadError as error:
            raise Invalid("The body's framing is broken.", field="body", reason="INVALID_BODY") from error
        finally:
            call.cancel()


async def _open_upload(
    request: web.Request, method: Method, query: dict[str, list[str]]
) -> tuple[Message, AsyncIterator[bytes]]:
    """Return the first message of an upload and the bytes after it: the body itself, or a form's part `file`."""
    if not request.content_type.startswith("multipart/"):
        head = transcoder.build_request(method, {}, query, {}, request.headers)
        return head, request.content.iter_chunked(CHUNK_BYTES)
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            raise Invalid("The form holds another form.", field="file")
        if part.name == "file":
            query.setdefault("filename", [part.filename or "file"])
            return transcoder.build_request(method, {}, query, {}, request.headers), _part_chunks(part)
        query.setdefault(part.name or "", []).append(await _text(part))
    raise Invalid("The form has no part `file` (it must come last).", field="file")


async def _text(part: BodyPartReader) -> str:
    """Return a form's field as it is. Raises: TooLarge, UnicodeDecodeError."""
    value = bytearray()
    async for chunk in _part_chunks(part):
        value += chunk
        if len(value) > FIELD_BYTES:
            raise TooLarge.over(FIELD_BYTES)
    return value.decode()


async def _part_chunks(part: BodyPartReader) -> AsyncIterator[bytes]:
    while chunk := await part.read_chunk(CHUNK_BYTES):
        yield chunk


async def _requests(method: Method, head: Message, source: AsyncIterator[bytes]) -> AsyncIterator[Message]:
    yield head
    async for chunk in source:
        yield method.request(data=chunk)


async def _with_pauses(
    call: Any, reading: asyncio.Future[Any], pause_seconds: float
) -> AsyncGenerator[Message | None, None]:
    """Yield the messages of a call, from the one that is being read, and None whenever nothing came for a while."""
    while True:
        try:
            while not (await asyncio.wait({reading}, timeout=pause_seconds))[0]:
                yield None
        finally:
            reading.cancel()
        item = reading.result()
        if item is grpc.aio.EOF:
            return
        yield item
        reading = asyncio.ensure_future(call.read())


def _event(item: Message | None) -> bytes:
    if item is None:
        return b": keep-alive\n\n"
    number = transcoder.event_id(item)
    head = f"id: {number}\n".encode() if number is not None else b""
    return head + b"data: " + _dump(encode(item)) + b"\n\n"


def _refusal(error: grpc.aio.AioRpcError, request: web.Request) -> ModelryError:
    """Return what a service answered; an etag that differs is what `If-Match` asked to be told."""
    refused = from_rpc_error(error)
    if refused.reason == "ETAG_MISMATCH" and "If-Match" in request.headers:
        return PreconditionFailed(refused.message, reason=refused.reason, metadata=refused.metadata)
    return refused


async def _json(answer: Message) -> web.Response:
    """Return a message as JSON, with its etag as `If-Match` takes it."""
    etag = getattr(answer, "etag", "")
    headers = {"ETag": f'"{etag}"'} if etag else {}
    written = await body.off_loop(answer.ByteSize(), lambda: _dump(encode(answer)))
    return web.Response(body=written, content_type="application/json", headers=headers)


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
