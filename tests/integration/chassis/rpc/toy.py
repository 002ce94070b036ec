"""A toy service, described in code: what the interceptor does must not depend on any real proto."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.api import field_behavior_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, field_mask_pb2, message_factory

from modelry.common.v1 import options_pb2

SERVICE = "modelry.toy.v1.ToyService"
INTERNAL = "modelry.toy.v1.ToyInternalService"
_T = descriptor_pb2.FieldDescriptorProto


def _field(message: Any, name: str, kind: int, *, repeated: bool = False, required: bool = False, of: str = "") -> Any:
    label = _T.LABEL_REPEATED if repeated else _T.LABEL_OPTIONAL
    field = message.field.add(name=name, number=len(message.field) + 1, type=kind, label=label)
    if of:
        field.type_name = f".modelry.toy.v1.{of}"
    if required:
        field.options.Extensions[field_behavior_pb2.field_behavior].append(field_behavior_pb2.REQUIRED)
    return field


def _file() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="modelry/toy/v1/toy.proto", package="modelry.toy.v1", syntax="proto3"
    )
    file.dependency.append(field_mask_pb2.DESCRIPTOR.name)
    part = file.message_type.add(name="Part")
    _field(part, "name", _T.TYPE_STRING, required=True)
    rate = _field(part, "rate", _T.TYPE_DOUBLE)
    rate.options.Extensions[options_pb2.minimum] = 0.5
    rate.options.Extensions[options_pb2.maximum] = 2
    _field(part, "parts", _T.TYPE_MESSAGE, repeated=True, of="Part")
    toy = file.message_type.add(name="Toy")
    _field(toy, "name", _T.TYPE_STRING, required=True)
    _field(toy, "part", _T.TYPE_MESSAGE, of="Part")
    _field(toy, "parts", _T.TYPE_MESSAGE, repeated=True, of="Part")
    note = _field(toy, "note", _T.TYPE_STRING)
    note.options.Extensions[options_pb2.longest] = 1 << 24
    update = file.message_type.add(name="UpdateToy")
    _field(update, "toy", _T.TYPE_MESSAGE, required=True, of="Toy")
    mask = _field(update, "update_mask", _T.TYPE_MESSAGE)
    mask.type_name = f".{field_mask_pb2.FieldMask.DESCRIPTOR.full_name}"
    for name, methods in (("ToyService", METHODS), ("ToyInternalService", {"Ask": (False, False)})):
        service = file.service.add(name=name)
        for method, (request_stream, response_stream) in methods.items():
            added = service.method.add(name=method, input_type=".modelry.toy.v1.Toy", output_type=".modelry.toy.v1.Toy")
            added.client_streaming, added.server_streaming = request_stream, response_stream
            if method == "Make":
                added.options.idempotency_level = descriptor_pb2.MethodOptions.IDEMPOTENT
            if name == "ToyService":
                added.options.Extensions[options_pb2.required_role] = options_pb2.DEVELOPER
    return file


METHODS = {"Make": (False, False), "Watch": (False, True), "Gather": (True, False), "Chat": (True, True)}
_pool = descriptor_pool.Default()
_pool.Add(_file())
FILE = _pool.FindFileByName("modelry/toy/v1/toy.proto")
Toy = message_factory.GetMessageClass(_pool.FindMessageTypeByName("modelry.toy.v1.Toy"))
Part = message_factory.GetMessageClass(_pool.FindMessageTypeByName("modelry.toy.v1.Part"))
UpdateToy = message_factory.GetMessageClass(_pool.FindMessageTypeByName("modelry.toy.v1.UpdateToy"))


class Toys:
    """Does what `act` says, in every kind of method; `act` gets the request and the context."""

    def __init__(self, act: Any) -> None:
        self.act = act

    async def make(self, request: Any, context: Any) -> Any:
        return await self.act(request, context)

    async def watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        if request.name != "quiet":
            yield Toy(name="first")
        yield await self.act(request, context)

    async def gather(self, requests: Any, context: Any) -> Any:
        last = None
        async for request in requests:
            last = request
        return await self.act(last, context)

    async def chat(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield await self.act(request, context)


def add(toys: Toys, server: Any) -> None:
    """What a generated `add_…_to_server` does."""
    coders = {"request_deserializer": Toy.FromString, "response_serializer": Toy.SerializeToString}
    handlers = {
        "Make": grpc.unary_unary_rpc_method_handler(toys.make, **coders),
        "Watch": grpc.unary_stream_rpc_method_handler(toys.watch, **coders),
        "Gather": grpc.stream_unary_rpc_method_handler(toys.gather, **coders),
        "Chat": grpc.stream_stream_rpc_method_handler(toys.chat, **coders),
    }
    server.add_registered_method_handlers(SERVICE, handlers)


def add_internal(toys: Toys, server: Any) -> None:
    """The same for the internal service."""
    coders = {"request_deserializer": Toy.FromString, "response_serializer": Toy.SerializeToString}
    handlers = {"Ask": grpc.unary_unary_rpc_method_handler(toys.make, **coders)}
    server.add_registered_method_handlers(INTERNAL, handlers)


async def call(channel: grpc.aio.Channel, method: str, *requests: Any, **options: Any) -> list[Any]:
    """Call a method of any kind; the answers as a list."""
    service, _, name = method.rpartition(".")
    service = service or SERVICE
    coders = {"request_serializer": Toy.SerializeToString, "response_deserializer": Toy.FromString}
    path = f"/{service}/{name}"
    request_stream, response_stream = METHODS.get(name, (False, False))
    if not request_stream and not response_stream:
        return [await channel.unary_unary(path, **coders)(requests[0], **options)]
    if not request_stream:
        return [answer async for answer in channel.unary_stream(path, **coders)(requests[0], **options)]
    if not response_stream:
        return [await channel.stream_unary(path, **coders)(iter(requests), **options)]
    return [answer async for answer in channel.stream_stream(path, **coders)(iter(requests), **options)]
