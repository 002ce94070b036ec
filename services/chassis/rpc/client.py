"""Channels to other processes: a deadline on every unary call, the trace handed on, and retries (`retries`).

`channel` leaves errors as gRPC's own, for those who pass them through; `Connections` turns them into `chassis.errors`.
"""

import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from google.protobuf.descriptor import FileDescriptor

from services.chassis import telemetry
from services.chassis.auth import Principal, Role, TokenIssuer, current_or_none
from services.chassis.direct import GRPC_DIRECT
from services.chassis.errors import from_rpc_error
from services.chassis.rpc.interceptor import AUTHORIZATION, REQUEST_ID
from services.chassis.rpc.retries import repeatable_methods, service_config

MESSAGE_BYTES = 16 * 1024 * 1024
DEADLINE_SECONDS = 30.0
_TOKEN_SECONDS = 300.0

Metadata = tuple[tuple[str, str], ...]

_OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.enable_retries", 1),
    GRPC_DIRECT,
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A service that was restarted is found again within seconds, not after gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.use_local_subchannel_pool", 1),
]


def channel(address: str, repeated: Iterable[str] = (), *, translate_errors: bool = False) -> grpc.aio.Channel:
    """Return a channel to `host:port`. It connects at first use; close it, or leave it to the process's end.

    Args:
        repeated: paths of the methods that are called again when nothing answers.
        translate_errors: raise the classes of `chassis.errors`. A call that streams requests keeps gRPC's own error:
            the library lets no interceptor stand there.
    """
    outgoing = [_UnaryUnary(translate_errors), _UnaryStream(translate_errors), _StreamUnary(), _StreamStream()]
    return grpc.aio.insecure_channel(address, options=_options(repeated), interceptors=outgoing)


def plain_channel(address: str, repeated: Iterable[str] = ()) -> grpc.aio.Channel:
    """Return a channel without interceptors, which cost a task each: the caller gives the trace and a deadline."""
    return grpc.aio.insecure_channel(address, options=_options(repeated))


def _options(repeated: Iterable[str]) -> list[tuple[str, int | str]]:
    return [*_OPTIONS, ("grpc.service_config", service_config(repeated))]


def _prepared(details: Any, *, deadline: bool) -> Any:
    """Return the call with the trace in its metadata, and a deadline if it has none."""
    headers: dict[str, str] = {}
    telemetry.inject(headers)
    metadata = grpc.aio.Metadata(*(details.metadata or ()), *headers.items())
    timeout = details.timeout
    if deadline and timeout is None:
        timeout = DEADLINE_SECONDS
    return details._replace(metadata=metadata, timeout=timeout)


@dataclass
class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    translate_errors: bool

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        call = await continuation(_prepared(client_call_details, deadline=True), request)
        if not self.translate_errors:
            return call
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error


@dataclass
class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    translate_errors: bool

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        call = await continuation(_prepared(client_call_details, deadline=False), request)
        return _translated_stream(call) if self.translate_errors else call


class _StreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(_prepared(client_call_details, deadline=False), request_iterator)


class _StreamStream(grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(_prepared(client_call_details, deadline=False), request_iterator)


async def _translated_stream(messages: AsyncIterable[Any]) -> AsyncIterator[Any]:
    try:
        async for message in messages:
            yield message
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


class AddressBook(Protocol):
    """The addresses at which services listen."""

    def address_of(self, service: str) -> str:
        """Return `host:port` of a service, by its name."""


class Connections:
    """Channels from this service to others by their names, opened at first use, and the metadata that says who calls.

    Errors are those of `chassis.errors`, raised from gRPC's.
    """

    def __init__(self, addresses: AddressBook, issuer: TokenIssuer, service: str) -> None:
        """Args: service: the caller's name, which the answering side notes as who asked."""
        self._addresses = addresses
        self._issuer = issuer
        self._service = service
        self._channels: dict[tuple[str, ...], grpc.aio.Channel] = {}
        self._tokens: dict[Principal, tuple[str, float]] = {}

    def channel(self, service: str, *protos: FileDescriptor) -> grpc.aio.Channel:
        """Return the channel to a service for the methods of these proto files; it repeats what may be repeated."""
        key = (service, *(file.name for file in protos))
        if key not in self._channels:
            repeated = [path for file in protos for path in repeatable_methods(file)]
            self._channels[key] = channel(self._addresses.address_of(service), repeated, translate_errors=True)
        return self._channels[key]

    def metadata(self, project: str, *, role: Role = Role.OWNER) -> Metadata:
        """Return who is calling: this service for a project, with the key of the call being answered, if any."""
        caller = current_or_none()
        key_id = caller.key_id if caller is not None and caller.project == project else ""
        principal = Principal(project, role, key_id, "service", self._service)
        token, until = self._tokens.get(principal, ("", 0.0))
        if time.monotonic() > until:
            if len(self._tokens) > 1_000:
                self._tokens.clear()
            token = self._issuer.issue(principal, _TOKEN_SECONDS)
            self._tokens[principal] = (token, time.monotonic() + _TOKEN_SECONDS / 2)
        request_id = telemetry.request_id()
        return ((AUTHORIZATION, f"Bearer {token}"), *(((REQUEST_ID, request_id),) if request_id else ()))

    async def close(self) -> None:
        for opened in self._channels.values():
            await opened.close()
        self._channels.clear()
