"""Finds the events in the code: which happenings of which resource each stage emits.

A stage builds an `Event` with the resource's noun; a function with a parameter `happening` builds one too. A happening
is written there, handed to such a function, or is the name of a state.
"""

import ast
import importlib
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Any

from deploy.tooling.sources import STAGES, parse, python_files
from modelry import api_methods

HAPPENING = re.compile(r"[a-z][A-Za-z]*")
STATES = "*states*"
# Position of an argument of `Event`, for calls that do not name it.
_RESOURCE, _HAPPENING = 1, 3

Function = ast.FunctionDef | ast.AsyncFunctionDef


INTRODUCTION = """# Event types

Subject `modelry.events.<project>.<resource>.<id>.<happening>`, CloudEvents type `modelry.<resource>.<happening>`; the
data is [ResourceChanged](events.md#resourcechanged). A happening in *italics* is no state of the resource.
"""
# What a happening means that is no state of its resource.
MEANINGS = {
    "adapterAdded": "An adapter is attached to every replica.",
    "adapterRemoved": "An adapter is no longer served.",
    "adaptersChanged": "The adapters that are to be served were changed.",
    "checkpointed": "A checkpoint is stored.",
    "created": "It was made.",
    "deleted": "It was deleted.",
    "expired": "Its time is over.",
    "keyClaimed": "Its key was shown, which happens once.",
    "prepared": "Its model is merged or described, and replicas can start.",
    "published": "A checkpoint of it became a model version.",
    "restarted": "A replica that ended is started again.",
    "revoked": "It may not be used any more.",
    "rotated": "It has a new secret.",
    "scaled": "The wanted number of replicas was changed.",
    "set": "It points at another version, or is new.",
    "updated": "Fields of it were changed.",
    "verified": "Its rights at the store were tried.",
}


def page() -> str:
    """Return the events of every stage, by resource."""
    lines = [INTRODUCTION]
    for stage, nouns in find_events().items():
        for noun, happenings in sorted(nouns.items()):
            states = states_of(stage, noun)
            lines += [f"## {noun}", "", f"Emitted by {stage}.", "", "| happening | meaning |", "|---|---|"]
            for happening in sorted(happenings):
                shown = f"`{happening}`" if happening in states else f"*{happening}*"
                lines.append(f"| {shown} | {_meaning(happening, noun, states)} |")
            lines.append("")
    return "\n".join(lines)


def _meaning(happening: str, noun: str, states: dict[str, str]) -> str:
    """Return the comment of a state, or what `MEANINGS` says of another happening. Raises: SystemExit: nothing does."""
    if happening in states and (comment := api_methods.comment(states[happening])):
        return comment.replace("\n", " ")
    if happening not in MEANINGS:
        raise SystemExit(f"{noun}.{happening} has no meaning yet: add it to MEANINGS in deploy/tooling/event_list.py")
    return MEANINGS[happening]


@cache
def find_events() -> dict[str, dict[str, set[str]]]:
    """Stage -> noun of a resource -> what may happen to it."""
    return {stage: _Stage(stage).events() for stage in STAGES}


def states_of(stage: str, noun: str) -> dict[str, str]:
    """Return the states of a resource: happening -> full name of the value in the proto."""
    for area in (stage, "access", "billing"):
        file = importlib.import_module(f"modelry.{area}.v1.{area}_pb2").DESCRIPTOR
        message: Any = file.message_types_by_name.get(noun[0].upper() + noun[1:])
        if message is not None and "State" in message.enum_types_by_name:
            states = message.enum_types_by_name["State"]
            return {v.name.lower(): f"{states.full_name}.{v.name}" for v in states.values if v.number}
    return {}


class _Stage:
    """Reads the events of one stage."""

    def __init__(self, name: str) -> None:
        self.name = name
        files = python_files(f"services/{name}")
        trees = [parse(path) for path in files if not {"worker", "migrations"} & set(path.parts)]
        self._nouns = {
            str(line.value.value)
            for tree in trees
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
            for line in node.body
            if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "resource"
            if isinstance(line.value, ast.Constant)
        }
        # A stage with jobs emits what the job engine emits of them.
        engine = [parse(path) for path in python_files("services/chassis/jobs")] if self._nouns else []
        self._functions: list[Function] = [
            node for tree in (*trees, *engine) for node in ast.walk(tree) if isinstance(node, Function)
        ]
        self._builders = {
            function.name: [one.arg for one in (*function.args.args, *function.args.kwonlyargs)]
            for function in self._functions
            if any(one.arg == "happening" for one in (*function.args.args, *function.args.kwonlyargs))
        }

    def events(self) -> dict[str, set[str]]:
        result: dict[str, set[str]] = defaultdict(set)
        nouns = self._nouns_of_builders()
        for function in self._functions:
            for call in _calls(function):
                name = ast.unparse(call.func).rpartition(".")[2]
                if name == "Event" and len(call.args) + len(call.keywords) > _HAPPENING:
                    for noun in self._noun(call):
                        result[noun] |= set(_happenings(_argument(call, "happening", _HAPPENING), function))
                elif name in self._builders:
                    position = self._builders[name].index("happening")
                    for noun in nouns[name]:
                        result[noun] |= set(_happenings(_argument(call, "happening", position), function))
        return {noun: self._with_states(noun, happenings) for noun, happenings in result.items()}

    def _with_states(self, noun: str, happenings: set[str]) -> set[str]:
        return (happenings - {STATES}) | (states_of(self.name, noun).keys() if STATES in happenings else set())

    def _nouns_of_builders(self) -> dict[str, set[str]]:
        """Function with a parameter `happening` -> the nouns whose events it builds, by itself or by another one."""
        nouns: dict[str, set[str]] = defaultdict(set)
        for _ in range(3):
            for function in self._functions:
                for call in _calls(function):
                    name = ast.unparse(call.func).rpartition(".")[2]
                    if name == "Event" and len(call.args) + len(call.keywords) > _HAPPENING:
                        nouns[function.name] |= self._noun(call)
                    elif name in self._builders and function.name in self._builders:
                        nouns[function.name] |= nouns[name]
        return nouns

    def _noun(self, call: ast.Call) -> set[str]:
        named = _argument(call, "resource", _RESOURCE)
        return {str(named.value)} if isinstance(named, ast.Constant) else self._nouns


def _calls(function: Function) -> Iterator[ast.Call]:
    return (node for node in ast.walk(function) if isinstance(node, ast.Call))


def _argument(call: ast.Call, name: str, position: int) -> ast.expr | None:
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    return named.get(name) or (call.args[position] if len(call.args) > position else None)


def _happenings(node: ast.AST | None, function: Function, depth: int = 1) -> Iterator[str]:
    """Yield what an expression may be: its texts, every state where it ends in `.lower()`, its variables' values."""
    for part in ast.walk(node) if node is not None else ():
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and HAPPENING.fullmatch(part.value):
            yield part.value
        elif isinstance(part, ast.Attribute) and part.attr == "lower":
            yield STATES
        elif isinstance(part, ast.Name) and depth:
            for line in ast.walk(function):
                if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == part.id:
                    yield from _happenings(line.value, function, depth - 1)
