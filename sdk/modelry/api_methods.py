"""The public methods, read from the protos: the one list that HTTP, OpenAPI, CLI, Client and tests are derived from.

A method is public when it has a `google.api.http` option.
"""

import importlib
import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from google.api import annotations_pb2, field_behavior_pb2
from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message

from modelry.common.v1 import options_pb2

SERVICES = ("dataset", "training", "registry", "evaluation", "serving", "access")
AREAS = (*SERVICES, "billing", "events", "admin")
EVERY_SERVICE = "every service"
"""The process of an area that each service answers for itself; the gateway asks all of them."""
SERVED_BY = {"billing": "access", "events": "access", "admin": EVERY_SERVICE}


@dataclass(frozen=True)
class Method:
    """One public method.

    Attributes:
        area: area of the protos; `process` is the service that answers for it.
        path: gRPC path, `/modelry.training.v1.TrainingService/CreateJob`.
        verb, template, body: of its HTTP form; `body` is "", "*" or the name of a field.
        role: name of the least role that may call it.
        idempotency: level in the protos.
    """

    name: str
    area: str
    service: str
    path: str
    verb: str
    template: str
    body: str
    role: str
    request: type[Message]
    response: type[Message]
    client_streaming: bool
    server_streaming: bool
    idempotency: int

    @property
    def process(self) -> str:
        """The service that answers for the area."""
        return SERVED_BY.get(self.area, self.area)

    @property
    def full_name(self) -> str:
        """`modelry.training.v1.TrainingService.CreateJob`."""
        return f"{self.service}.{self.name}"

    @property
    def call_name(self) -> str:
        """What it is called on a client: `create_job`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", self.name).lower()

    @property
    def raw(self) -> bool:
        """It streams bytes, not messages."""
        return self.response.DESCRIPTOR.full_name == "google.api.HttpBody"

    @property
    def creates(self) -> bool:
        """It makes something: it takes a request id. (A quote takes the create request and makes nothing.)"""
        changes = self.idempotency != MethodOptions.NO_SIDE_EFFECTS
        return changes and "request_id" in self.request.DESCRIPTOR.fields_by_name

    @property
    def repeatable(self) -> bool:
        """A repeat does no more than the first call, even without a request id: it may follow a lost answer."""
        return self.idempotency != MethodOptions.IDEMPOTENCY_UNKNOWN

    @property
    def updates(self) -> bool:
        """It changes the fields of a resource that an `update_mask` names."""
        return "update_mask" in self.request.DESCRIPTOR.fields_by_name

    def mask_by_body(self, request: Any, body: Any) -> None:
        """Of an update without a mask, make the fields that the body gives the mask: an empty value is one too."""
        if self.updates:
            own = request.DESCRIPTOR.fields_by_name[self.body].message_type.fields
            names = {field.camelcase_name: field.name for field in own}
            paths = {names.get(path, path) for path in request.update_mask.paths or body}
            request.update_mask.paths[:] = sorted(paths)


def has_behavior(field: Any, behavior: int) -> bool:
    """Return whether a field is REQUIRED, OUTPUT_ONLY, …"""
    return behavior in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]


@cache
def methods() -> tuple[Method, ...]:
    """Return all public methods, in the order of the protos."""
    result: list[Method] = []
    for area in AREAS:
        module = importlib.import_module(f"modelry.{area}.v1.{area}_pb2")
        for service in module.DESCRIPTOR.services_by_name.values():
            public = (one for one in service.methods if one.GetOptions().HasExtension(annotations_pb2.http))
            result += [_method(area, service, method) for method in public]
    return tuple(result)


def _method(area: str, service: Any, method: Any) -> Method:
    options = method.GetOptions()
    rule = options.Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")
    return Method(
        name=method.name,
        area=area,
        service=service.full_name,
        path=f"/{service.full_name}/{method.name}",
        verb=verb.upper(),
        template=getattr(rule, verb),
        body=rule.body,
        role=options_pb2.Role.Name(options.Extensions[options_pb2.required_role] or options_pb2.INFERENCE),
        request=message_factory.GetMessageClass(method.input_type),
        response=message_factory.GetMessageClass(method.output_type),
        client_streaming=method.client_streaming,
        server_streaming=method.server_streaming,
        idempotency=options.idempotency_level,
    )


@cache
def _comments() -> Any:
    return json.loads(resources.files("modelry").joinpath("comments.json").read_text("utf-8"))


def comment(full_name: str) -> str:
    """Return what the protos say about a service, method, message, field or value; nothing for what is not ours."""
    return str(_comments().get(full_name, ""))
