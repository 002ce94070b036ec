"""What happens around every call that a service answers, in this order: request id and trace, who is calling, what a
request must have, the default deadline, and errors becoming statuses.

Health and reflection, which have no policy, pass untouched.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from services.chassis import auth, telemetry
from services.chassis.errors import (
    DOMAIN,
    STATUS_DETAILS_KEY,
    ModelryError,
    Unauthenticated,
    from_rpc_error,
    to_status,
)
from services.chassis.rpc import opening
from services.chassis.rpc.validation import read_request, validate

AUTHORIZATION = "authorization"
REQUEST_ID = "x-request-id"

_log = logging.getLogger(__name__)
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_LONGEST_REQUEST_ID = 128

Handler = Any  # grpc.RpcMethodHandler, which is generic only in its type stubs


@dataclass(frozen=True)
class Policy:
    """Who may call a method.

    Attributes:
        role: the least role.
        service_only: only parts of Modelry may call it.
    """

    role: auth.Role
    service_only: bool = False


class CallGuard:
    """What stands around every method of a server.

    The methods are wrapped once, when they are added: gRPC's own interceptors are called, and make a handler, for each
    call, which costs as much as reading a row.
    """

    def __init__(self, issuer: auth.TokenIssuer, deadline_seconds: float) -> None:
        self._issuer = issuer
        self._deadline_seconds = deadline_seconds
        self._duration = telemetry.meter().create_histogram("rpc.server.duration", unit="ms")

    def wrap(self, service: str, handlers: Mapping[str, Handler], policies: Mapping[str, Policy]) -> dict[str, Handler]:
        """Return the handlers of a service, by method name, with the guard around each."""
        return {name: self._wrap(handler, f"/{service}/{name}", policies[name]) for name, handler in handlers.items()}

    def _wrap(self, handler: Any, method: str, policy: Policy) -> Handler:
        """Return a handler that is given bytes: what cannot be read is refused like everything else."""
        deadline, read = self._deadline_seconds, handler.request_deserializer

        async def unary(given: Any, call: Any) -> Any:
            async with _Answer(self, method, policy, call):
                if handler.request_streaming:
                    opening.enter(call)
                    return await handler.stream_unary(_all_requests(read, given), call)
                request = _request(read, given)
                if call.time_remaining() is not None:  # gRPC itself cancels a call whose own deadline passes
                    return await handler.unary_unary(request, call)
                return await _within(deadline, handler.unary_unary(request, call))

        async def stream(given: Any, call: Any) -> AsyncIterator[Any]:
            async with _Answer(self, method, policy, call):
                opening.enter(call)
                if handler.request_streaming:
                    result = handler.stream_stream(_all_requests(read, given), call)
                else:
                    result = handler.unary_stream(_request(read, given), call)
                if not hasattr(result, "__aiter__"):
                    await result  # a coroutine that writes by itself
                    return
                async with aclosing(result) as messages:
                    async for message in messages:
                        yield message

        make: Any = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        behavior: Any = stream if handler.response_streaming else unary
        wrapped: Handler = make(behavior, None, handler.response_serializer)
        return wrapped

    def authenticate(self, metadata: Mapping[str, str], policy: Policy) -> auth.Principal:
        """Return the caller, who may call a method of this policy. Raises: Unauthenticated, Denied."""
        scheme, _, token = metadata.get(AUTHORIZATION, "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("This call carries no key: send `authorization: Bearer KEY`.")
        principal = self._issuer.verify(token.strip())
        if policy.service_only:
            principal.require_service()
        principal.require(policy.role)
        return principal

    def measure(self, method: str, code: int, seconds: float) -> None:
        """Record one answered call."""
        self._duration.record(seconds * 1000, {"rpc.method": method, "rpc.grpc.status_code": code})


class _Answer:
    """One call, from its first byte to its status: who is calling, and what is raised as a status."""

    def __init__(self, guard: CallGuard, method: str, policy: Policy, call: Any) -> None:
        self._guard, self._method, self._policy, self._call = guard, method, policy, call
        self._code = int(code_pb2.OK)
        self._request_id = ""

    async def __aenter__(self) -> None:
        metadata = {
            key: value if isinstance(value, str) else value.decode("latin-1")
            for key, value in self._call.invocation_metadata() or ()
        }
        self._request_id = metadata.get(REQUEST_ID, "")[:_LONGEST_REQUEST_ID] or f"req-{uuid.uuid4().hex}"
        telemetry.set_request_id(self._request_id)
        self._call.set_trailing_metadata(((REQUEST_ID, self._request_id),))
        self._span = telemetry.enter(metadata, self._method)
        self._started = time.perf_counter()
        try:
            auth.enter(self._guard.authenticate(metadata, self._policy))
        except ModelryError as error:
            await self.__aexit__(type(error), error, None)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        try:
            if isinstance(error, grpc.aio.AbortError):
                self._code = int(code_pb2.UNKNOWN)
            elif isinstance(error, Exception):
                await self._refuse(error)
        finally:
            self._span.end()
            self._guard.measure(self._method, self._code, time.perf_counter() - self._started)

    async def _refuse(self, error: Exception) -> None:
        status = _status_of(error, self._method, self._request_id)
        self._code = int(status.code)
        self._span.set_attribute("rpc.grpc.status_code", self._code)
        details = ((STATUS_DETAILS_KEY, status.SerializeToString()), (REQUEST_ID, self._request_id))
        await self._call.abort(_CODES[self._code], status.message, details)


def _status_of(error: Exception, method: str, request_id: str) -> status_pb2.Status:
    """Return the status of what a method raised; what nobody foresaw is logged whole and gets a fixed text."""
    if isinstance(error, grpc.aio.AioRpcError):
        error = from_rpc_error(error)
    if isinstance(error, _DeadlineExceeded):
        status = status_pb2.Status(code=code_pb2.DEADLINE_EXCEEDED, message=str(error))
        info = any_pb2.Any()
        info.Pack(error_details_pb2.ErrorInfo(reason="DEADLINE_EXCEEDED", domain=DOMAIN))
        status.details.append(info)
        return status
    if not isinstance(error, ModelryError):
        _log.error("call failed: %s", method, exc_info=error)
        return to_status(ModelryError(str(error)), request_id)
    status = to_status(error, request_id)
    if status.code == code_pb2.INTERNAL:
        _log.error("call failed: %s: %s", method, error.message, exc_info=error)
    return status


class _DeadlineExceeded(Exception):
    """The default deadline passed before the method was done."""


async def _within(seconds: float, answer: Awaitable[Any]) -> Any:
    """Limit a call whose caller gave no deadline."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await answer
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise _DeadlineExceeded(f"The call took more than {seconds:g} s.") from error


def _request(read: Callable[[bytes], Any], data: bytes) -> Any:
    message = read_request(read, data)
    validate(message)
    return message


async def _all_requests(read: Callable[[bytes], Any], parts: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    async for data in parts:
        yield _request(read, data)
