"""`/openapi.json`: OpenAPI 3.1 derived from the protos, with their comments as the words."""

import json
import re
from functools import cache
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf import descriptor as pb

from gateway import openapi_rules as rules
from modelry.api_methods import Method, comment, has_behavior, methods
from modelry.codec import is_map

VERSION = "0.1.0"
_SPECIAL: dict[str, dict[str, Any]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": rules.DURATION,
    "google.protobuf.FieldMask": {"type": "string"},
    "google.protobuf.Empty": {"type": "object"},
    "google.api.HttpBody": {"type": "string", "format": "binary"},
    "modelry.common.v1.Money": rules.MONEY,
}
_SCALARS: dict[int, dict[str, Any]] = {
    pb.FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
    pb.FieldDescriptor.CPPTYPE_DOUBLE: {"type": "number"},
    pb.FieldDescriptor.CPPTYPE_FLOAT: {"type": "number"},
    pb.FieldDescriptor.CPPTYPE_INT32: {"type": "integer", "format": "int32"},
    pb.FieldDescriptor.CPPTYPE_INT64: {"type": "integer", "format": "int64"},
    pb.FieldDescriptor.CPPTYPE_UINT32: {"type": "integer"},
    pb.FieldDescriptor.CPPTYPE_UINT64: {"type": "integer"},
    pb.FieldDescriptor.CPPTYPE_STRING: {"type": "string"},
}
_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "code": {"type": "integer", "description": "HTTP status."},
                "status": {"type": "string", "description": "gRPC code."},
                "reason": {"type": "string", "description": "Stable word for programs."},
                "message": {"type": "string", "description": "What happened and what to do."},
                "details": {"type": "object", "description": "`field_violations`, `metadata`."},
                "request_id": {"type": "string"},
            },
        }
    },
}
_REFUSED = {
    "description": "Refused; `reason` and `message` say why.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}


@cache
def document() -> dict[str, Any]:
    """Return the whole document."""
    schemas: dict[str, Any] = {"Error": _ERROR}
    paths: dict[str, Any] = {}
    for method in methods():
        path = re.sub(r"\{([a-z_]+)\.([a-z_]+)\}", r"{\1_\2}", method.template)
        paths.setdefault(path, {})[method.verb.lower()] = _operation(method, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Modelry",
            "version": VERSION,
            "description": "Import, fine-tune, publish, evaluate, deploy. The OpenAI-compatible API is under `/v1`.",
        },
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": dict(sorted(schemas.items())),
        },
    }


@cache
def written() -> bytes:
    """Return the document as JSON: who asks for it needs no key, so that it costs nothing to ask again."""
    return json.dumps(document()).encode()


def _operation(method: Method, schemas: dict[str, Any]) -> dict[str, Any]:
    in_path = re.findall(r"\{([a-z_.]+)\}", method.template)
    heads = {name.split(".")[0] for name in in_path} | {method.body}
    parameters = [
        {"name": name.replace(".", "_"), "in": "path", "required": True, "schema": _of_path(method, name)}
        for name in in_path
    ]
    operation: dict[str, Any] = {
        "operationId": method.name,
        "tags": [method.area],
        "summary": comment(method.full_name).split(". ")[0].rstrip("."),
        "description": f"{comment(method.full_name)}\n\nLeast role: {method.role.lower()}.",
        "responses": {"200": _answer(method, schemas), "default": _REFUSED},
    }
    if method.body != "*" or method.client_streaming:
        for field in method.request.DESCRIPTOR.fields:
            if field.name not in heads and field.type != pb.FieldDescriptor.TYPE_BYTES:
                schema = _field_schema(field, schemas) | rules.of_query(method, field)
                description = schema.pop("description", "")
                parameters.append({"name": field.name, "in": "query", "description": description, "schema": schema})
                if method.client_streaming and field.name == "filename":
                    parameters[-1]["required"] = True  # a form has it beside its file
    if method.updates:
        description = "Etag of what you read: if it has changed since, the answer is 412 and nothing changes."
        parameters.append({"name": "If-Match", "in": "header", "description": description, "schema": rules.ETAG})
    if parameters:
        operation["parameters"] = parameters
    if method.body:
        operation["requestBody"] = _body(method, schemas, set(in_path))
    return operation


def _of_path(method: Method, name: str) -> dict[str, Any]:
    *parents, last = name.split(".")
    descriptor: Any = method.request.DESCRIPTOR
    for parent in parents:
        descriptor = descriptor.fields_by_name[parent].message_type
    field = descriptor.fields_by_name[last]
    return {"type": "string", **rules.of_text(field), **rules.of_field(field)}


def _body(method: Method, schemas: dict[str, Any], in_path: set[str]) -> dict[str, Any]:
    if method.client_streaming:
        file = {"type": "string", "format": "binary", "minLength": 1}
        content: dict[str, Any] = {"application/octet-stream": {"schema": file}}
    elif method.body == "*":
        properties = {
            f.name: _field_schema(f, schemas) for f in method.request.DESCRIPTOR.fields if f.name not in in_path
        }
        needed = rules.required(method.request.DESCRIPTOR, but=in_path)
        content = {"application/json": {"schema": {**rules.CLOSED, **needed, "properties": properties}}}
    else:
        field: Any = method.request.DESCRIPTOR.fields_by_name[method.body]
        more = rules.of_body(method, field.message_type)
        schema = _reference(field.message_type, schemas)
        content = {"application/json": {"schema": {"allOf": [schema, more]} if more else schema}}
    return {"required": True, "content": content}


def _answer(method: Method, schemas: dict[str, Any]) -> dict[str, Any]:
    schema = _reference(method.response.DESCRIPTOR, schemas)
    kind = "application/json"
    if method.raw:
        kind = "application/octet-stream"
    elif method.server_streaming:
        kind = "text/event-stream"
    return {
        "description": comment(method.response.DESCRIPTOR.full_name) or "Done.",
        "content": {kind: {"schema": schema}},
    }


def _reference(descriptor: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    if descriptor.full_name in _SPECIAL:
        return dict(_SPECIAL[descriptor.full_name])
    name = re.sub(r"^modelry\.[a-z]+\.v1\.", "", descriptor.full_name)
    if name not in schemas:
        schemas[name] = {}  # before its fields: messages may hold themselves
        schemas[name] = {
            **rules.CLOSED,
            "description": comment(descriptor.full_name),
            "properties": {field.name: _field_schema(field, schemas) for field in descriptor.fields},
            **rules.of_message(descriptor),
        }
    return {"$ref": f"#/components/schemas/{name}"}


def _field_schema(field: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    if is_map(field):
        values = _value_schema(field.message_type.fields_by_name["value"], schemas) | rules.of_text(field)
        schema: dict[str, Any] = {"type": "object", "additionalProperties": values, **rules.of_keys(field)}
    elif field.is_repeated:
        schema = {"type": "array", "items": _value_schema(field, schemas) | rules.of_text(field)}
    else:
        schema = _value_schema(field, schemas) | rules.of_text(field)
    schema = rules.merged(schema, rules.of_field(field)) | {"description": comment(field.full_name)}
    if has_behavior(field, field_behavior_pb2.OUTPUT_ONLY):
        schema["readOnly"] = True
    if has_behavior(field, field_behavior_pb2.INPUT_ONLY):
        schema["writeOnly"] = True
    return schema


def _value_schema(field: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    if field.message_type is not None:
        return _reference(field.message_type, schemas)
    if field.enum_type is not None:
        return {"type": "string", "enum": [value.name for value in field.enum_type.values]}
    if field.type == pb.FieldDescriptor.TYPE_BYTES:
        return {"type": "string", "format": "byte"}
    scalar = dict(_SCALARS[field.cpp_type])
    if field.cpp_type in rules.INTEGERS:
        scalar["minimum"], scalar["maximum"] = rules.INTEGERS[field.cpp_type]
    return scalar
