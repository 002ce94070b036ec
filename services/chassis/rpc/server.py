"""The gRPC server that every service runs.

A service adds its servicers to an RpcServer; who may call a method comes from the protos. Errors arrive as the classes
of `chassis.errors`, on either side.
"""

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from modelry.common.v1 import options_pb2
from services.chassis.auth import Role, TokenIssuer
from services.chassis.errors import ModelryError
from services.chassis.rpc.client import DEADLINE_SECONDS, MESSAGE_BYTES
from services.chassis.rpc.interceptor import CallGuard, Policy
from services.chassis.settings import Settings

GRACE_SECONDS = 5.0

_log = logging.getLogger(__name__)
_SERVER_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),  # a second copy of a service must find its port taken
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 60_000),
]


class RpcServer:
    """A service's gRPC server: health, reflection, and the guard around every method."""

    def __init__(self, settings: Settings, issuer: TokenIssuer, *, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        self._listen = settings.listen
        self._guard = CallGuard(issuer, deadline_seconds)
        self._server = grpc.aio.server(options=_SERVER_OPTIONS)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._names: list[str] = []

    def add(self, servicer: Any, add_fn: Callable[[Any, Any], None], full_service_name: str) -> None:
        """Offer a service; its policies come from the protos."""
        own = handlers_of(servicer, add_fn)
        handlers = self._guard.wrap(full_service_name, own, policies_of(full_service_name))
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(full_service_name, handlers),))
        self._names.append(full_service_name)

    def offer(self, servicer: Any) -> None:
        """Offer the service whose generated class a servicer extends."""
        generated = next(cls for cls in type(servicer).__mro__ if cls.__module__.endswith("_pb2_grpc"))
        stem = generated.__name__.removesuffix("Servicer")
        add_fn = getattr(sys.modules[generated.__module__], f"add_{stem}Servicer_to_server")
        self.add(servicer, add_fn, f"{generated.__module__.rpartition('.')[0]}.{stem}")

    async def start(self, *, serving: bool = True) -> int:
        """Listen; with `serving` false, health says so until `set_serving`.

        Returns: the port. Raises: ModelryError: the address is taken.
        """
        names = (*self._names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        try:
            port = self._server.add_insecure_port(self._listen)
        except RuntimeError as error:
            raise ModelryError(f"Cannot listen on {self._listen}: the address is taken.") from error
        await self.set_serving(serving)
        await self._server.start()
        _log.info("listening on port %d", port)
        return port

    async def set_serving(self, serving: bool) -> None:
        """Say in health whether this process can answer."""
        states = health_pb2.HealthCheckResponse
        state = states.SERVING if serving else states.NOT_SERVING
        for name in ("", *self._names):
            await self._health.set(name, state)

    async def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Say NOT_SERVING, let running calls end for `grace_seconds`, then close."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_seconds)


def handlers_of(servicer: Any, add_fn: Callable[[Any, Any], None]) -> Mapping[str, Any]:
    """Return the handlers that a generated function adds, by method name."""
    methods = _Methods()
    add_fn(servicer, methods)
    return methods.handlers


class _Methods:
    """Stands in a server's place when a generated function adds a servicer, to get its handlers by method name."""

    def __init__(self) -> None:
        self.handlers: Mapping[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Pass over the form in which the handlers are hidden in a function."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Take the handlers."""
        self.handlers = handlers


def policies_of(full_service_name: str) -> dict[str, Policy]:
    """Return method name -> policy, from the protos: `required_role`, and services only for `…InternalService`."""
    service = descriptor_pool.Default().FindServiceByName(full_service_name)
    internal = full_service_name.endswith("InternalService")
    roles = {one.name: one.GetOptions().Extensions[options_pb2.required_role] for one in service.methods}
    return {name: Policy(Role(role or Role.INFERENCE), service_only=internal) for name, role in roles.items()}
