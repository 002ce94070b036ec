"""Channels to other processes: a deadline on every unary call, the trace handed on, and retries (`retries`).

`channel` leaves errors as gRPC's own, for those who pass them through; `Connections` turns them into `chassis.errors`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from google.protobuf.descriptor import FileDescriptor

from services.chassis import telemetry
from services.chassis.auth import Principal, Role, TokenIssuer, current_or_none
from services.chassis.direct import GRPC_DIRECT
from services.chassis.errors import ModelryError, Unauthenticated, Unavailable, from_rpc_error
from services.chassis.rpc.interceptor import AUTHORIZATION, REQUEST_ID
from services.chassis.rpc.retries import repeatable_methods, service_config
from services.chassis.rpc.tokens import Tokens

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


def channel(
    address: str, repeated: Iterable[str] = (), *, translate_errors: bool = False, tokens: Tokens | None = None
) -> grpc.aio.Channel:
    """Return a channel to `host:port`. It connects at first use; close it, or leave it to the process's end.

    Args:
        repeated: paths of the methods that are called again when nothing answers.
        translate_errors: raise the classes of `chassis.errors`. A call that streams requests keeps gRPC's own error:
            the library lets no interceptor stand there.
        tokens: with errors translated, a call whose token was refused is made once more with a new one of these.
    """
    outgoing = [
        _UnaryUnary(translate_errors, tokens),
        _UnaryStream(translate_errors, tokens),
        _StreamUnary(),
        _StreamStream(),
    ]
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
    tokens: Tokens | None

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        details = _prepared(client_call_details, deadline=True)
        call = await continuation(details, request)
        if not self.translate_errors:
            return call
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            renewed = _renewed(details, error, self.tokens)
            if renewed is None:
                raise _between_services(error) from error
        try:
            return await (await continuation(renewed, request))
        except grpc.aio.AioRpcError as error:
            raise _between_services(error) from error


@dataclass
class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    translate_errors: bool
    tokens: Tokens | None

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        details = _prepared(client_call_details, deadline=False)
        call = await continuation(details, request)
        if not self.translate_errors:
            return call
        return _translated_stream(call, details, self.tokens, lambda renewed: continuation(renewed, request))


class _StreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(_prepared(client_call_details, deadline=False), request_iterator)


class _StreamStream(grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(_prepared(client_call_details, deadline=False), request_iterator)


async def _translated_stream(
    call: Any, details: Any, tokens: Tokens | None, again: Callable[[Any], Awaitable[Any]]
) -> AsyncIterator[Any]:
    try:
        async for message in call:
            yield message
        return
    except grpc.aio.AioRpcError as error:  # a token is refused before the first message, so that none comes twice
        renewed = _renewed(details, error, tokens)
        if renewed is None:
            raise _between_services(error) from error
    try:
        async for message in await again(renewed):
            yield message
    except grpc.aio.AioRpcError as error:
        raise _between_services(error) from error


def _renewed(details: Any, error: grpc.aio.AioRpcError, tokens: Tokens | None) -> Any:
    """Return the call with a new token, if the peer refused the one that it has: then it did nothing yet."""
    old = str(dict(details.metadata).get(AUTHORIZATION, "")).removeprefix("Bearer ")
    if tokens is None or not old or error.code() is not grpc.StatusCode.UNAUTHENTICATED:
        return None
    try:
        new = f"Bearer {tokens.renewed(old)}"
    except Unauthenticated:
        return None
    others = [(key, value) for key, value in details.metadata if key != AUTHORIZATION]
    return details._replace(metadata=grpc.aio.Metadata(*others, (AUTHORIZATION, new)))


def _between_services(error: grpc.aio.AioRpcError) -> ModelryError:
    """Return a peer's error. A token that it refuses is never the fault of whoever asked for the work."""
    told = from_rpc_error(error)
    if not isinstance(told, Unauthenticated):
        return told
    return Unavailable("A part of Modelry does not believe another's token: compare their clocks and `token_secret`.")


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
        self._service = service
        self._channels: dict[tuple[str, ...], grpc.aio.Channel] = {}
        self._tokens = Tokens(issuer, _TOKEN_SECONDS)

    def channel(self, service: str, *protos: FileDescriptor) -> grpc.aio.Channel:
        """Return the channel to a service for the methods of these proto files; it repeats what may be repeated."""
        key = (service, *(file.name for file in protos))
        if key not in self._channels:
            repeated = [path for file in protos for path in repeatable_methods(file)]
            address = self._addresses.address_of(service)
            self._channels[key] = channel(address, repeated, translate_errors=True, tokens=self._tokens)
        return self._channels[key]

    def metadata(self, project: str, *, role: Role = Role.OWNER) -> Metadata:
        """Return who is calling: this service for a project, with the key of the call being answered, if any."""
        caller = current_or_none()
        key_id = caller.key_id if caller is not None and caller.project == project else ""
        principal = Principal(project, role, key_id, "service", self._service)
        token = self._tokens.of(principal)
        request_id = telemetry.request_id()
        return ((AUTHORIZATION, f"Bearer {token}"), *(((REQUEST_ID, request_id),) if request_id else ()))

    async def close(self) -> None:
        for opened in self._channels.values():
            await opened.close()
        self._channels.clear()
