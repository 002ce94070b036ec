"""What the gRPC port answers itself: health, and the description of the public API (reflection v1 and v1alpha).

Internal services are not described: the descriptions are those of public methods and what they need.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from google.protobuf import descriptor_pool, text_format
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from modelry.api_methods import methods
from services.chassis.errors import Invalid
from services.chassis.rpc import handlers_of, read_request

HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
REFLECTION = reflection.SERVICE_NAME
REFLECTION_V1 = REFLECTION.replace("v1alpha", "v1")
"""The same messages under another name; the library has v1alpha alone."""


class OwnServices:
    """Health and reflection. `handlers` by gRPC path."""

    def __init__(self) -> None:
        self._names = sorted({method.service for method in methods()})
        self._health = health.aio.HealthServicer()
        described = reflection.aio.ReflectionServicer(
            (*self._names, HEALTH, REFLECTION, REFLECTION_V1), pool=_public_descriptions()
        )
        by_service: dict[str, Mapping[str, Any]] = {
            HEALTH: handlers_of(self._health, health_pb2_grpc.add_HealthServicer_to_server),
            REFLECTION: handlers_of(described, reflection_pb2_grpc.add_ServerReflectionServicer_to_server),
        }
        by_service[REFLECTION_V1] = by_service[REFLECTION]
        self.handlers: dict[str, Any] = {
            f"/{service}/{name}": handler
            for service, own in by_service.items()
            for name, handler in own.items()
            if name != "List"  # of health: in its proto, and not in the library
        }

    async def start(self) -> None:
        """Say in health that all is offered."""
        for name in ("", *self._names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)


async def answer(handler: Any, requests: AsyncIterator[bytes], call: Any) -> None:
    """Answer a call of one of these handlers, whose requests come as bytes. Raises: Invalid."""
    read = handler.request_deserializer
    if handler.request_streaming:
        result = handler.stream_stream(_read_all(read, requests), call)
    else:
        message = read_request(read, await only_message(requests))
        if not handler.response_streaming:
            await call.write(await handler.unary_unary(message, call))
            return
        result = handler.unary_stream(message, call)
    if not hasattr(result, "__aiter__"):
        await result  # it writes by itself
        return
    async for item in result:
        await call.write(item)


async def only_message(requests: AsyncIterator[bytes]) -> bytes:
    """Return the message of a call that has one. Raises: Invalid: it has none."""
    async for message in requests:
        return message
    raise Invalid("The call ended without a message; this method takes one.", reason="NO_MESSAGE")


async def _read_all(read: Callable[[bytes], Any], requests: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    async for request in requests:
        yield read_request(read, request)


def _public_descriptions() -> descriptor_pool.DescriptorPool:
    pool, seen = descriptor_pool.DescriptorPool(), set[str]()

    def add(file: FileDescriptor) -> None:
        if file.name in seen:
            return
        seen.add(file.name)
        for needed in file.dependencies:
            add(needed)
        pool.AddSerializedFile(file.serialized_pb)

    known = descriptor_pool.Default()
    for name in sorted({method.service for method in methods()}):
        add(known.FindServiceByName(name).file)
    for module in (health_pb2, reflection_pb2):
        add(module.DESCRIPTOR)
    renamed = str(FileDescriptorProto.FromString(reflection_pb2.DESCRIPTOR.serialized_pb)).replace("v1alpha", "v1")
    pool.AddSerializedFile(text_format.Parse(renamed, FileDescriptorProto()).SerializeToString())
    return pool
