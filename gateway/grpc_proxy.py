"""The gRPC port of all areas: it checks the key of a call and forwards its bytes to the service that answers.

Only public methods pass: those with a `google.api.http` option. Health and reflection answer here, for all.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import grpc
from grpc_status import rpc_status

from gateway import grpc_services
from gateway.administration import Administration
from gateway.authentication import Authenticator
from gateway.context import Channels, Metadata, new_request_id, refuse_repeated
from gateway.grpc_bounds import Callers, ReaderStopped
from gateway.grpc_services import OwnServices, only_message
from gateway.uploads import send_all
from gateway.watches import Watches
from modelry.api_methods import EVERY_SERVICE, Method, methods
from services.chassis.auth import Principal, Role
from services.chassis.errors import STATUS_DETAILS_KEY, ModelryError, from_rpc_error, to_status
from services.chassis.rpc import OPENED, read_request

PASSED_METADATA = ("traceparent", "tracestate")
REQUEST_ID = "x-request-id"
UNARY_SECONDS = 30.0
Requests = AsyncIterator[bytes]
Call = grpc.aio.ServicerContext[Any, Any]
_log = logging.getLogger(__name__)


class GrpcProxy(grpc.GenericRpcHandler):
    """Forwards calls as bytes, whatever their kind: on the wire all are streams."""

    def __init__(
        self,
        authenticator: Authenticator,
        channels: Channels,
        administration: Administration,
        watches: Watches,
        callers: Callers,
    ) -> None:
        """`channels` repeat no creates: what passes here may be without a request id."""
        self._authenticator, self._channels, self._administration = authenticator, channels, administration
        self._watches, self._callers = watches, callers
        self._methods: dict[str, Method] = {method.path: method for method in methods()}
        self.own = OwnServices()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of a method; a method that there is not is refused by one too."""
        path = handler_call_details.method
        own = self.own.handlers.get(path)

        async def answer(requests: Requests, call: Call) -> None:
            """Give the call an id, ours as over HTTP, and turn whatever goes wrong into a status that bears it."""
            request_id = new_request_id()
            call.set_trailing_metadata(((REQUEST_ID, request_id),))
            try:
                with self._callers.place(call) as address:
                    bounded = self._callers.bounded(requests, call)
                    if own is None:
                        await self._forward(path, *bounded, request_id, address)
                    else:
                        await self._answer(own, *bounded, address)
            except grpc.aio.AbortError:
                raise
            except ReaderStopped as error:
                raise asyncio.CancelledError from error  # nothing can be said to it; gRPC drops the call
            except grpc.aio.AioRpcError as error:
                await _pass_on(error, call, request_id)
            except ModelryError as error:
                await _refuse(error, call, request_id)
            except Exception:
                _log.exception("%s failed", path, extra={"request_id": request_id})
                await _refuse(ModelryError("internal"), call, request_id)

        return grpc.stream_stream_rpc_method_handler(answer, response_serializer=own and own.response_serializer)

    async def _answer(self, own: Any, requests: Requests, call: Any, address: str) -> None:
        """Answer a call of health or reflection, for which nobody needs a key; its streams are watches as well."""
        streams = own.request_streaming or own.response_streaming
        async with self._watches.open(f"address {address}") if streams else nullcontext():
            await grpc_services.answer(own, requests, call)

    async def _forward(self, path: str, requests: Requests, call: Any, request_id: str, address: str) -> None:
        method = self._methods.get(path)
        if method is None:
            words = f"There is no method {path}; reflection lists what there is."
            await call.abort(grpc.StatusCode.UNIMPLEMENTED, words, ((REQUEST_ID, request_id),))
            return
        texts: Any = call.invocation_metadata() or ()
        given = {key: value for key, value in texts if isinstance(value, str)}  # binary values are not ours
        refuse_repeated(key for key, _ in texts)
        principal = await self._authenticator.principal(given, address, Role[method.role])
        trace = ((key, given[key]) for key in PASSED_METADATA if key in given)
        metadata = self._authenticator.metadata(principal, request_id, trace)
        if method.process == EVERY_SERVICE:
            await self._administer(method, requests, call, principal, metadata)
        elif method.server_streaming and not method.raw:
            check = partial(self._authenticator.key, given, address)
            async with self._watches.open(principal.key_id, check):
                await self._pass(method, requests, call, metadata)
        else:
            await self._pass(method, requests, call, metadata)

    async def _pass(self, method: Method, requests: Requests, call: Any, metadata: Metadata) -> None:
        """Pass the bytes of a call; no method streams both ways."""
        upstream = await self._open(method, requests, call, metadata)
        try:
            if method.client_streaming:
                await send_all(requests, upstream)
            elif method.server_streaming and OPENED in dict(await upstream.initial_metadata() or ()):
                await call.send_initial_metadata(())  # its first message may be long in coming
            async for message in upstream:
                await call.write(message)
        finally:
            upstream.cancel()

    async def _open(self, method: Method, requests: Requests, call: Any, metadata: Metadata) -> Any:
        """Return the call of the service that answers."""
        timeout: Any = call.time_remaining()  # None without a deadline, whatever the stubs say
        channel: Any = self._channels[method.process]
        if method.client_streaming:
            return channel.stream_stream(method.path)(metadata=metadata, timeout=timeout)
        if timeout is None and not method.server_streaming:
            timeout = UNARY_SECONDS
        message = await only_message(requests)
        return channel.unary_stream(method.path)(message, metadata=metadata, timeout=timeout)

    async def _administer(
        self, method: Method, requests: Requests, call: Any, principal: Principal, metadata: Metadata
    ) -> None:
        message = read_request(method.request.FromString, await only_message(requests))
        answer = await self._administration.call(method.name, message, principal, metadata)
        await call.write(answer.SerializeToString())


async def _pass_on(error: grpc.aio.AioRpcError, call: Call, request_id: str) -> None:
    """End a call as its service did; the words of gRPC itself, which name inner addresses, are replaced."""
    trailing: dict[str, Any] = dict(error.trailing_metadata() or ())
    message = error.details() if STATUS_DETAILS_KEY in trailing else from_rpc_error(error).message
    await call.abort(error.code(), message or "", tuple({**trailing, REQUEST_ID: request_id}.items()))


async def _refuse(error: ModelryError, call: Call, request_id: str) -> None:
    status: Any = rpc_status.to_status(to_status(error, request_id))
    await call.abort(status.code, status.details, (*status.trailing_metadata, (REQUEST_ID, request_id)))


async def open_grpc_proxy(
    listen: str, proxy: GrpcProxy, options: Sequence[tuple[str, Any]], tls: grpc.ServerCredentials | None = None
) -> tuple[grpc.aio.Server, int]:
    """Start the server. Returns: the server and its port. Raises: ModelryError: the address is taken."""
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((proxy,))
    await proxy.own.start()
    try:
        port = server.add_secure_port(listen, tls) if tls else server.add_insecure_port(listen)
    except RuntimeError as error:
        raise ModelryError(f"Cannot listen on {listen}: the address is taken.") from error
    await server.start()
    return server, port
