"""Channels to other processes: retries of UNAVAILABLE alone, a deadline on every unary call, the trace handed on.

`channel` leaves errors as gRPC's own, for those who pass them through; `Peers` turns them into `chassis.errors`.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import AsyncIterable, AsyncIterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import grpc

from services.chassis import telemetry
from services.chassis.auth import Principal, Role, TokenIssuer, current_or_none
from services.chassis.errors import from_rpc_error
from services.chassis.rpc.interceptor import AUTHORIZATION, REQUEST_ID

if TYPE_CHECKING:
    from modelry.access.v1.access_pb2_grpc import AccessServiceAsyncStub
    from modelry.access.v1.internal_pb2_grpc import AccessInternalServiceAsyncStub
    from modelry.billing.v1.billing_pb2_grpc import BillingServiceAsyncStub
    from modelry.billing.v1.internal_pb2_grpc import BillingInternalServiceAsyncStub
    from modelry.dataset.v1.dataset_pb2_grpc import DatasetServiceAsyncStub
    from modelry.dataset.v1.internal_pb2_grpc import DatasetInternalServiceAsyncStub
    from modelry.evaluation.v1.evaluation_pb2_grpc import EvaluationServiceAsyncStub
    from modelry.events.v1.events_pb2_grpc import EventServiceAsyncStub
    from modelry.registry.v1.internal_pb2_grpc import RegistryInternalServiceAsyncStub
    from modelry.registry.v1.registry_pb2_grpc import RegistryServiceAsyncStub
    from modelry.serving.v1.internal_pb2_grpc import ServingInternalServiceAsyncStub
    from modelry.serving.v1.serving_pb2_grpc import ServingServiceAsyncStub
    from modelry.training.v1.internal_pb2_grpc import TrainingInternalServiceAsyncStub
    from modelry.training.v1.training_pb2_grpc import TrainingServiceAsyncStub

MESSAGE_BYTES = 16 * 1024 * 1024
DEADLINE_SECONDS = 30.0
_TOKEN_SECONDS = 300.0

Metadata = tuple[tuple[str, str], ...]

_RETRIES = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.2s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.enable_retries", 1),
    ("grpc.service_config", json.dumps(_RETRIES)),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A service that was restarted is found again within seconds, not after gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.use_local_subchannel_pool", 1),
]


def channel(address: str, *, translate_errors: bool = False) -> grpc.aio.Channel:
    """A channel to `host:port`. Cheap to make, connects at first use; close it, or leave it to the process's end.

    Args: translate_errors: raise the classes of `chassis.errors`. A call that streams requests keeps gRPC's own error:
        the library lets no interceptor stand there.
    """
    outgoing: list[Any] = [_UnaryUnary(), _UnaryStream(), _StreamUnary(), _StreamStream()]
    if translate_errors:
        outgoing = [_TranslateUnary(), _TranslateStream(), *outgoing]
    return grpc.aio.insecure_channel(address, options=_OPTIONS, interceptors=outgoing)


def _prepared(details: Any, *, deadline: bool) -> Any:
    """The call with the trace in its metadata, and a deadline if it has none."""
    headers: dict[str, str] = {}
    telemetry.inject(headers)
    metadata = grpc.aio.Metadata(*(details.metadata or ()), *headers.items())
    timeout = details.timeout
    if deadline and timeout is None:
        timeout = DEADLINE_SECONDS
    return details._replace(metadata=metadata, timeout=timeout)


class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(_prepared(client_call_details, deadline=True), request)


class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(_prepared(client_call_details, deadline=False), request)


class _StreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(_prepared(client_call_details, deadline=False), request_iterator)


class _StreamStream(grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(_prepared(client_call_details, deadline=False), request_iterator)


class _TranslateUnary(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        try:
            return await (await continuation(client_call_details, request))
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error


class _TranslateStream(grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return _translated_stream(await continuation(client_call_details, request))


async def _translated_stream(messages: AsyncIterable[Any]) -> AsyncIterator[Any]:
    try:
        async for message in messages:
            yield message
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


class PeerSettings(Protocol):
    """Where the services listen."""

    dataset_address: str
    training_address: str
    registry_address: str
    evaluation_address: str
    serving_address: str
    access_address: str


class Peers:
    """The other services, as stubs: `peers.registry`, and `peers.registry_internal` for what only services may ask.

    Every call names the project that it acts in: `await peers.registry.GetModel(request, metadata=peers.metadata(p))`.
    Errors are those of `chassis.errors`, raised from gRPC's.
    """

    def __init__(self, settings: PeerSettings, issuer: TokenIssuer, service: str = "service") -> None:
        """Args: service: the caller's name, which the answering side notes as who asked."""
        self._settings = settings
        self._issuer = issuer
        self._service = service
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._tokens: dict[Principal, tuple[str, float]] = {}

    def metadata(self, project: str, *, role: Role = Role.OWNER) -> Metadata:
        """Who is calling: this service for a project, with the key of the call being answered, if there is one."""
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
        """Close the channels."""
        for opened in self._channels.values():
            await opened.close()
        self._channels.clear()

    def _channel(self, service: str) -> grpc.aio.Channel:
        if service not in self._channels:
            self._channels[service] = channel(getattr(self._settings, f"{service}_address"), translate_errors=True)
        return self._channels[service]

    def _stub(self, area: str, service: str, internal: bool) -> Any:
        """The stub of an area, imported when first asked for: a service loads the protos of those it calls."""
        module = importlib.import_module(f"modelry.{area}.v1.{'internal' if internal else area}_pb2_grpc")
        noun = "Event" if area == "events" else area.capitalize()
        name = f"{noun}{'Internal' if internal else ''}ServiceStub"
        return getattr(module, name)(self._channel(service))

    @cached_property
    def dataset(self) -> DatasetServiceAsyncStub:
        """Data sets."""
        stub: DatasetServiceAsyncStub = self._stub("dataset", "dataset", internal=False)
        return stub

    @cached_property
    def dataset_internal(self) -> DatasetInternalServiceAsyncStub:
        """Data sets, for services."""
        stub: DatasetInternalServiceAsyncStub = self._stub("dataset", "dataset", internal=True)
        return stub

    @cached_property
    def training(self) -> TrainingServiceAsyncStub:
        """Tuning jobs."""
        stub: TrainingServiceAsyncStub = self._stub("training", "training", internal=False)
        return stub

    @cached_property
    def training_internal(self) -> TrainingInternalServiceAsyncStub:
        """Tuning jobs, for services."""
        stub: TrainingInternalServiceAsyncStub = self._stub("training", "training", internal=True)
        return stub

    @cached_property
    def registry(self) -> RegistryServiceAsyncStub:
        """Models."""
        stub: RegistryServiceAsyncStub = self._stub("registry", "registry", internal=False)
        return stub

    @cached_property
    def registry_internal(self) -> RegistryInternalServiceAsyncStub:
        """Models, for services."""
        stub: RegistryInternalServiceAsyncStub = self._stub("registry", "registry", internal=True)
        return stub

    @cached_property
    def evaluation(self) -> EvaluationServiceAsyncStub:
        """Evaluations."""
        stub: EvaluationServiceAsyncStub = self._stub("evaluation", "evaluation", internal=False)
        return stub

    @cached_property
    def serving(self) -> ServingServiceAsyncStub:
        """Deployments."""
        stub: ServingServiceAsyncStub = self._stub("serving", "serving", internal=False)
        return stub

    @cached_property
    def serving_internal(self) -> ServingInternalServiceAsyncStub:
        """Deployments, for services."""
        stub: ServingInternalServiceAsyncStub = self._stub("serving", "serving", internal=True)
        return stub

    @cached_property
    def access(self) -> AccessServiceAsyncStub:
        """Projects, keys and credentials."""
        stub: AccessServiceAsyncStub = self._stub("access", "access", internal=False)
        return stub

    @cached_property
    def access_internal(self) -> AccessInternalServiceAsyncStub:
        """Projects, keys and credentials, for services."""
        stub: AccessInternalServiceAsyncStub = self._stub("access", "access", internal=True)
        return stub

    @cached_property
    def billing(self) -> BillingServiceAsyncStub:
        """Prices, quotes and reservations."""
        stub: BillingServiceAsyncStub = self._stub("billing", "access", internal=False)
        return stub

    @cached_property
    def billing_internal(self) -> BillingInternalServiceAsyncStub:
        """Prices, quotes and reservations, for services."""
        stub: BillingInternalServiceAsyncStub = self._stub("billing", "access", internal=True)
        return stub

    @cached_property
    def events(self) -> EventServiceAsyncStub:
        """Events."""
        stub: EventServiceAsyncStub = self._stub("events", "access", internal=False)
        return stub
