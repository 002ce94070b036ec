"""Which noun and verb a method has on the command line, and which flags."""

import re
from dataclasses import dataclass
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf import descriptor as pb

from modelry.api_methods import Method, has_behavior, methods
from modelry.common.v1 import options_pb2

# Nested collections that have a word of their own; any other is `<parent>-<collection>`.
OWN_WORD = {"checkpoints", "replicas", "samples", "aliases"}
HIDDEN_FIELDS = {"request_id", "update_mask", "page_token", "after_version"}
_VARIABLE = re.compile(r"\{([a-z_.]+)\}")
_MESSAGE = pb.FieldDescriptor.CPPTYPE_MESSAGE


@dataclass(frozen=True)
class Flag:
    """One flag: the path of its field below the request, its descriptor, and the name to type."""

    path: tuple[str, ...]
    field: Any
    name: str


def kebab(text: str) -> str:
    """`apiKeys` and `api_keys` as `api-keys`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", text).replace("_", "-").lower()


def noun_and_verb(method: Method) -> tuple[str, str]:
    """`/api/v1/datasets/{dataset}/versions/{version}:publish` -> (`dataset-versions`, `publish`)."""
    path, _, custom = method.template.removeprefix("/api/v1/").partition(":")
    words = [word for word in path.split("/") if not word.startswith("{")]
    if words[-1] in ("content", "report"):  # a part of the resource, not a collection
        return kebab(words[0]), "content" if words[-1] == "content" else "report"
    noun = words[-1] if len(words) == 1 or words[-1] in OWN_WORD else f"{words[-2].removesuffix('s')}-{words[-1]}"
    verb = custom or kebab(re.findall(r"[A-Z][a-z]*", method.name)[0])
    return kebab(noun), kebab(verb)


def commands() -> dict[str, dict[str, Method]]:
    """Noun -> verb -> method."""
    result: dict[str, dict[str, Method]] = {}
    for method in methods():
        noun, verb = noun_and_verb(method)
        result.setdefault(noun, {})[verb] = method
    return result


def arguments(method: Method) -> list[str]:
    """Return the variables of the path, in order: what is typed without a flag."""
    return _VARIABLE.findall(method.template)


def flags(method: Method) -> list[Flag]:
    """Return the flags of a method: the fields of the body and of single messages in it, and the query's."""
    heads = {name.split(".")[0] for name in arguments(method)}
    result: list[Flag] = []
    for field in method.request.DESCRIPTOR.fields:
        if field.name == method.body:
            result += _flags_below(field.message_type, (field.name,))
        elif field.name not in heads | HIDDEN_FIELDS:
            result += _flags_of(field, ())
    names = [flag.name for flag in result]
    return [flag for index, flag in enumerate(result) if flag.name not in names[:index]]


def _flags_below(descriptor: Any, path: tuple[str, ...]) -> list[Flag]:
    result: list[Flag] = []
    for field in descriptor.fields:
        if not has_behavior(field, field_behavior_pb2.OUTPUT_ONLY) and field.name != "etag":
            result += _flags_of(field, path)
    return result


def _flags_of(field: Any, path: tuple[str, ...]) -> list[Flag]:
    here = (*path, field.name)
    own = Flag(here, field, kebab(field.name))
    single = (
        field.cpp_type == _MESSAGE and not field.is_repeated and field.message_type.file.package.startswith("modelry")
    )
    if not single or field.message_type.name in ("Money", "ObjectLocation", "Target", "JobDataset"):
        return [own]
    return [own, *_flags_below(field.message_type, here)]


def shorthand(descriptor: Any) -> str:
    """Return the field of a message that a bare word stands for: its first required one, or the first of its choice."""
    for field in descriptor.fields:
        if has_behavior(field, field_behavior_pb2.REQUIRED):
            return str(field.name)
    for oneof in descriptor.oneofs:
        return str(oneof.fields[0].name)
    return str(descriptor.fields[0].name)


def alias_paths(body: Any, path: tuple[str, ...] = ()) -> dict[str, tuple[str, ...]]:
    """Return the names under which a file may give a field (LLaMA-Factory's) -> path below the body."""
    result: dict[str, tuple[str, ...]] = {}
    for field in body.fields:
        here = (*path, field.name)
        if alias := field.GetOptions().Extensions[options_pb2.alias]:
            result[alias] = here
        if field.cpp_type == _MESSAGE and not field.is_repeated and field.message_type.name == "Hyperparameters":
            result |= {item.name: (*here, item.name) for item in field.message_type.fields}
            result |= alias_paths(field.message_type, here)
    return result
