"""What was typed, as the fields of a request: flags, files in YAML or JSON, and LLaMA-Factory's names."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import yaml
from google.protobuf import descriptor as pb

from modelry.api_methods import Method
from modelry.cli.naming import Flag, alias_paths, kebab, shorthand
from modelry.codec import is_map

_MESSAGE = pb.FieldDescriptor.CPPTYPE_MESSAGE


def connection_options(command: click.Command) -> click.Command:
    """`--home`, `--project` and `--json`, on every command."""
    command.params += [
        click.Option(["--home"], default="", help="Folder of the installation.  [~/.modelry]"),
        click.Option(["--project", "in_project"], default="", help="Project, for an admin key.  [default]"),
        click.Option(["--json", "as_json"], is_flag=True, help="Print JSON."),
    ]
    return command


def collect(method: Method, in_path: Mapping[str, str], given: Mapping[Flag, Any], file: str | None) -> dict[str, Any]:
    """Return the fields of the request: a file's first, flags over them, the path's variables last."""
    fields: dict[str, Any] = {}
    if method.body and method.body != "*":
        fields[method.body] = _read_file(method, file) if file else {}
    elif file:
        fields = _read_yaml(file)
    for flag, value in given.items():
        _put(fields, flag.path, _value(flag.field, value))
    for name, text in in_path.items():
        _put(fields, tuple(name.split(".")), text)
    if file and method.body and method.body != "*":
        _lift(method, fields)
    return fields


def _lift(method: Method, fields: dict[str, Any]) -> None:
    """Fields of the request itself may stand beside those of its body."""
    descriptor: Any = method.request.DESCRIPTOR
    own = descriptor.fields_by_name[method.body].message_type.fields_by_name
    body = fields[method.body]
    for name in [name for name in body if name in descriptor.fields_by_name and name not in own]:
        fields.setdefault(name, body.pop(name))


def _put(fields: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for name in path[:-1]:
        fields = fields.setdefault(name, {})
    fields[path[-1]] = value


def _value(field: Any, value: Any) -> Any:
    """Return a flag's text as JSON has it: lists repeated or separated by commas, a bare word for a message."""
    if is_map(field):
        return _pairs(field, value)
    if field.is_repeated:
        items = [item for text in value for item in _split(field, text)]
        return [_single(field, item) for item in items]
    return _single(field, value)


def _split(field: Any, text: str) -> Any:
    if text.startswith("["):
        return _parse(field, text)
    return [text] if field.cpp_type == _MESSAGE or "," not in text else text.split(",")


def _single(field: Any, value: Any) -> Any:
    if field.cpp_type != _MESSAGE or not isinstance(value, str):
        return value
    if value.startswith("{"):
        return _parse(field, value)
    if not field.message_type.file.package.startswith("modelry") or field.message_type.name == "Money":
        return value
    if field.message_type.name == "ObjectLocation":
        return location(value)
    return {shorthand(field.message_type): value}


def location(text: str) -> dict[str, str]:
    """`CREDENTIAL:BUCKET/PREFIX`, `BUCKET/PREFIX` or `s3://BUCKET/PREFIX` as an ObjectLocation."""
    credential, colon, rest = text.removeprefix("s3://").partition(":")
    if not colon:
        credential, rest = "", credential
    bucket, _, prefix = rest.partition("/")
    return {"credential": credential, "bucket": bucket, "prefix": prefix}


def _pairs(field: Any, texts: tuple[str, ...]) -> dict[str, str]:
    result: dict[str, str] = {}
    for text in texts:
        if text.startswith("{"):
            result.update(_parse(field, text))
            continue
        key, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"write KEY=VALUE, not {text!r}", param_hint=f"--{kebab(field.name)}")
        result[key] = value
    return result


def _parse(field: Any, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"is no JSON: {error}", param_hint=f"--{kebab(field.name)}") from None


def _read_yaml(file: str) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
        result = yaml.safe_load(text)
    except OSError as error:
        raise click.BadParameter(f"cannot be read: {error.strerror}", param_hint="-f") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise click.BadParameter(f"is no YAML{where}", param_hint="-f") from None
    if not isinstance(result, dict):
        raise click.BadParameter("must hold a mapping of fields", param_hint="-f")
    return result


def _read_file(method: Method, file: str) -> dict[str, Any]:
    """Return a file's fields below the body, other names replaced by ours."""
    descriptor: Any = method.request.DESCRIPTOR.fields_by_name[method.body].message_type
    own, aliases = descriptor.fields_by_name, alias_paths(descriptor)
    result: dict[str, Any] = {}
    for name, value in _read_yaml(file).items():
        if name in own or name not in aliases:
            result[name] = {**result.get(name, {}), **value} if isinstance(value, dict) else value
        else:
            _put(result, aliases[name], value)
    datasets = result.pop("dataset", None) if "datasets" in own else None
    if datasets is not None:
        names = datasets.split(",") if isinstance(datasets, str) else list(datasets)
        result.setdefault("datasets", [{"ref": name.strip()} for name in names])
    return result
