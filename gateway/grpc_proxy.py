"""The gRPC port of all areas: it checks the key of a call and forwards its bytes to the service that answers.

Only public methods pass: those with a `google.api.http` option. Health and reflection answer here, for all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from gateway.administration import Administration
from gateway.authentication import Authenticator
from gateway.context import Channels, Metadata, new_request_id, refuse_repeated
from modelry.api_methods import EVERY_SERVICE, Method, methods
from services.chassis.auth import Principal, Role
from services.chassis.errors import ModelryError, to_status
from services.chassis.rpc import MESSAGE_BYTES, OPENED

PASSED_METADATA = ("traceparent", "tracestate")
UNARY_SECONDS = 30.0


class GrpcProxy(grpc.GenericRpcHandler):
    """Forwards calls as bytes, whatever their kind: on the wire all are streams."""

    def __init__(self, authenticator: Authenticator, channels: Channels, administration: Administration) -> None:
        self._authenticator, self._channels, self._administration = authenticator, channels, administration
        self._methods: dict[str, Method] = {method.path: method for method in methods()}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of a method, or none: the library answers UNIMPLEMENTED."""
        method = self._methods.get(handler_call_details.method)
        if method is None:
            return None

        async def forward(requests: AsyncIterator[bytes], call: grpc.aio.ServicerContext[Any, Any]) -> None:
            await self._forward(method, requests, call)

        return grpc.stream_stream_rpc_method_handler(forward)

    async def _forward(
        self, method: Method, requests: AsyncIterator[bytes], call: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        texts: Any = call.invocation_metadata() or ()
        given = {key: value for key, value in texts if isinstance(value, str)}  # binary values are not ours
        request_id = given.get("x-request-id") or new_request_id()
        try:
            refuse_repeated(key for key, _ in texts)
            principal = await self._authenticator.principal(given, _address(call.peer()), Role[method.role])
        except ModelryError as error:
            await call.abort_with_status(rpc_status.to_status(to_status(error, request_id)))
        trace = ((key, given[key]) for key in PASSED_METADATA if key in given)
        metadata = self._authenticator.metadata(principal, request_id, trace)
        if method.process == EVERY_SERVICE:
            await self._administer(method, requests, call, principal, metadata)
            return
        timeout: Any = call.time_remaining()  # None without a deadline, whatever the stubs say
        if timeout is None and not (method.client_streaming or method.server_streaming):
            timeout = UNARY_SECONDS
        callable_: Any = self._channels[method.process].stream_stream(method.path)
        upstream = callable_(requests, metadata=metadata, timeout=timeout)
        try:
            if method.server_streaming and OPENED in dict(await upstream.initial_metadata() or ()):
                await call.send_initial_metadata(())  # its first message may be long in coming
            async for message in upstream:
                await call.write(message)
        except grpc.aio.AioRpcError as error:
            trailing: Any = tuple((key, value) for key, value in error.trailing_metadata() or ())
            await call.abort(error.code(), error.details() or "", trailing)
        finally:
            upstream.cancel()

    async def _administer(
        self,
        method: Method,
        requests: AsyncIterator[bytes],
        call: grpc.aio.ServicerContext[Any, Any],
        principal: Principal,
        metadata: Metadata,
    ) -> None:
        try:
            async for request in requests:
                message = method.request.FromString(request)
                answer = await self._administration.call(method.name, message, principal, metadata)
                await call.write(answer.SerializeToString())
        except ModelryError as error:
            await call.abort_with_status(rpc_status.to_status(to_status(error, dict(metadata)["x-request-id"])))


async def open_grpc_proxy(listen: str, proxy: GrpcProxy) -> tuple[grpc.aio.Server, int]:
    """Start the server. Returns: the server and its port. Raises: ModelryError: the address is taken."""
    options = [
        ("grpc.max_receive_message_length", MESSAGE_BYTES),
        ("grpc.max_send_message_length", MESSAGE_BYTES),
        ("grpc.so_reuseport", 0),
    ]
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((proxy,))
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    names = sorted({method.service for method in methods()})
    for name in ("", *names):
        await health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection((*names, "grpc.health.v1.Health", reflection.SERVICE_NAME), server)
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as error:
        raise ModelryError(f"Cannot listen on {listen}: the address is taken.") from error
    await server.start()
    return server, port


def _address(peer: str) -> str:
    """Return the address in `ipv4:127.0.0.1:5000` or `ipv6:[::1]:5000`."""
    kind, _, rest = peer.partition(":")
    if kind == "ipv6":
        return rest[rest.find("[") + 1 : rest.find("]")].replace("%5B", "").replace("%5D", "")
    return rest.rpartition(":")[0] or "127.0.0.1"
