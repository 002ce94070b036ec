"""Commands made from the protos: a noun is a group, a verb a method, a flag a field."""

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import click
from google.protobuf import descriptor as pb

from modelry.api_methods import Method, comment, methods
from modelry.cli import outputs
from modelry.cli.commands import HANDMADE
from modelry.cli.inputs import collect, connection_options
from modelry.cli.naming import Flag, arguments, commands, flags, kebab, noun_and_verb
from modelry.client import Client

Field = pb.FieldDescriptor
QUOTED = ("jobs", "evaluations", "deployments")


def noun(name: str, verbs: Mapping[str, Method]) -> click.Group:
    """Return the group of a noun."""
    group = click.Group(name, help=f"{name.replace('-', ' ').capitalize()}.")
    for verb, method in verbs.items():
        group.add_command(HANDMADE.get(f"{name} {verb}") or _command(verb, method))
    for key, command in HANDMADE.items():
        if key.startswith(f"{name} ") and key.split()[1] not in verbs:
            group.add_command(command)
    return group


def _command(verb: str, method: Method) -> click.Command:
    given = flags(method)
    params: list[click.Parameter] = [click.Argument([_argument(name)]) for name in arguments(method)]
    if method.client_streaming:
        params.append(click.Argument(["path"], type=click.Path(exists=True, dir_okay=False)))
    params += [_option(flag) for flag in given]
    if method.body and not method.client_streaming:
        params.append(click.Option(["-f", "--file", "file"], help="Fields from a YAML or JSON file; - is stdin."))
    if _waits(method):
        params.append(click.Option(["--wait"], is_flag=True, help="Follow until it has ended."))
    if verb == "create" and noun_and_verb(method)[0] in QUOTED:
        params.append(click.Option(["--yes", "-y"], is_flag=True, help="Do not ask before spending."))
    text = comment(method.full_name)
    callback = partial(_run, method, given)
    command = click.Command(verb, params=params, callback=callback, help=text, short_help=text.split(". ")[0])
    return connection_options(command)


def _argument(name: str) -> str:
    return name.replace(".", "_")


def _option(flag: Flag) -> click.Option:
    words = comment(flag.field.full_name)
    name = f"--{flag.name}"
    key = "__".join(flag.path)
    if flag.field.cpp_type == Field.CPPTYPE_BOOL and not flag.field.is_repeated:
        return click.Option([f"{name}/--no-{flag.name}", key], default=None, help=words)
    kind: Any = str
    if flag.field.enum_type is not None:
        values = [kebab(value.name) for value in flag.field.enum_type.values if value.number]
        kind = click.Choice(values, case_sensitive=False)
    return click.Option([name, key], multiple=flag.field.is_repeated, type=kind, help=words)


def _waits(method: Method) -> bool:
    return method.name.startswith(("Create", "Clone", "Scale", "Prepare", "Stop")) and _watcher(method) is not None


def _watcher(method: Method) -> Method | None:
    name = f"Watch{method.response.DESCRIPTOR.name}"
    return next((other for other in methods() if other.name == name), None)


def _run(method: Method, given: list[Flag], **values: Any) -> int:
    as_json, wait = values.pop("as_json"), values.pop("wait", False)
    home, project, file = values.pop("home"), values.pop("in_project"), values.pop("file", None)
    yes, path = values.pop("yes", None), values.pop("path", "")
    in_path = {name: values[_argument(name)] for name in arguments(method)}
    typed = {flag: values["__".join(flag.path)] for flag in given}
    typed = {flag: value for flag, value in typed.items() if value not in (None, ())}
    fields = collect(method, in_path, typed, file)
    with Client(home=home, project=project) as client:
        if method.client_streaming:
            outputs.show(client.upload(path, fields.get("filename", ""), fields.get("purpose", "fine-tune")), as_json)
            return outputs.EXIT_OK
        if yes is False:
            _ask(client, method, fields)
        return _answer(client, method, fields, as_json, wait)


def _answer(client: Client, method: Method, fields: dict[str, Any], as_json: bool, wait: bool) -> int:
    if method.raw:
        for part in client.call(method, fields):
            sys.stdout.buffer.write(part.data)
        return outputs.EXIT_OK
    if method.server_streaming:
        if not as_json and "state" in method.response.DESCRIPTOR.fields_by_name:
            return outputs.exit_code(outputs.follow(client.call(method, fields), as_json))
        outputs.stream(client.call(method, fields), as_json)
        return outputs.EXIT_OK
    if "next_page_token" in method.response.DESCRIPTOR.fields_by_name:
        return _list(client, method, fields, as_json)
    answer = client.call(method, fields)
    if wait:
        answer = wait_for(client, method, answer, as_json)
    outputs.show(answer, as_json)
    return outputs.exit_code(answer) if wait else outputs.EXIT_OK


def _list(client: Client, method: Method, fields: dict[str, Any], as_json: bool) -> int:
    """Show all pages, or the one that was asked for."""
    answer_fields: Any = method.response.DESCRIPTOR.fields
    field = next(f.name for f in answer_fields if f.is_repeated and f.message_type is not None)
    if fields.get("page_size"):
        outputs.show_list(getattr(client.call(method, fields), field), as_json)
    else:
        outputs.show_list(client.pages(method.call_name, field, **fields), as_json)
    return outputs.EXIT_OK


def wait_for(client: Client, method: Method, resource: Any, as_json: bool) -> Any:
    """Follow what a method has begun, until it has ended (a deployment: until it is ready or fails)."""
    watcher = _watcher(method)
    assert watcher is not None, "it has --wait"
    in_path = arguments(watcher)
    values = {in_path[-1]: resource.id}
    if len(in_path) == 2:
        values[in_path[0]] = getattr(resource, f"{in_path[0]}_id")
    changes = client.call(watcher, values)
    if method.area == "serving":
        changes = _until_settled(changes)
    return outputs.follow(changes, as_json)


def _until_settled(changes: Any) -> Any:
    for item in changes:
        yield item
        if outputs.state_of(item) in ("READY", "IDLE", "FAILING", "DELETED"):
            return


def _ask(client: Client, method: Method, fields: dict[str, Any]) -> None:
    """On a terminal show the quote and ask; the quote is then part of the create."""
    if not sys.stdin.isatty():
        return
    noun_name = noun_and_verb(method)[0]
    quote = client.call(commands()[noun_name]["quote"], fields)
    outputs.show(quote, False)
    click.confirm("Go on?", abort=True)
    fields[method.body]["quote_id"] = quote.id
