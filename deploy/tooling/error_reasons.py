"""Finds the stable reasons of errors in the code: who raises each, as what, and with which words."""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.rpc import code_pb2

from deploy.tooling.sources import ROOT, parse, python_files
from services.chassis import errors

REASON = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
# What a violation of a field is raised as.
VIOLATION = "Violation"
# Calls that note why something failed or was refused without an answer to a request -> (reason, sentence) by position.
FAILURES = {
    "Failure": (0, 1),
    "FailureWords": (0, 1),
    "FileRefused": (0, 1),
    "ProgramResult": (1, 2),
    "RowProblem": (1, 2),
}


@dataclass(frozen=True, order=True)
class Reason:
    """One place that names a reason: the class of the error (nothing for a failure), and its sentence."""

    name: str
    error: str
    words: str
    place: str

    @property
    def http(self) -> int:
        """HTTP status of the error."""
        return errors.TABLE[getattr(errors, self.error)][1]

    @property
    def grpc(self) -> int:
        """gRPC code of the error."""
        return errors.TABLE[getattr(errors, self.error)][0]


def page() -> str:
    """Reasons of errors by HTTP status, then reasons of what failed later."""
    result = find_reasons()
    lines = ["# Reasons", "", "A program compares the reason; the sentence is for people and may change.", ""]
    lines += ["## Errors", "", "What a call is refused with: `error.reason`.", ""]
    lines += ["| reason | HTTP | gRPC | sentences |", "|---|---|---|---|"]
    lines += _rows([reason for reason in result if reason.error])
    lines += ["", "## Failures and refused rows", ""]
    lines += [
        "What became of a job, an import, a preparation, a deployment (`failure.reason`), or of one row (`code`).",
        "",
    ]
    lines += ["| reason | sentences |", "|---|---|"]
    lines += _rows([reason for reason in result if not reason.error])
    return "\n".join(lines)


def _rows(found: list[Reason]) -> list[str]:
    """Return one row for each reason and status; its sentences, three at most."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for reason in found:
        status = f" {reason.http} | {code_pb2.Code.Name(reason.grpc)} |" if reason.error else ""
        grouped.setdefault((reason.name, status), []).append(reason.words)
    return [
        f"| `{name}` |{status} {' '.join(_sentences(words))} |".replace("  |", " |")
        for (name, status), words in sorted(grouped.items())
    ]


def _sentences(words: list[str]) -> list[str]:
    seen = [word.strip().rstrip(".").replace("|", "\\|").replace("\n", " ") for word in dict.fromkeys(words) if word]
    return [f"{word}." for word in seen[:3]]


def find_reasons() -> list[Reason]:
    """Return every reason of services and gateway, sorted."""
    files = [path for path in python_files("services", "gateway") if "migrations" not in path.parts]
    trees = {path: parse(path) for path in files}
    classes = _error_classes(trees)
    result = {reason for path, tree in trees.items() for reason in _Reader(path, tree, classes).reasons()}
    return sorted(result)


def _error_classes(trees: dict[Path, ast.Module]) -> dict[str, str]:
    """Name of an error class -> its nearest ancestor in the chassis' table."""
    known = {cls.__name__: cls.__name__ for cls in errors.TABLE}
    known |= {VIOLATION: "Invalid", "_Retryable": "Unavailable"}
    while True:
        more = {
            node.name: known[base.id]
            for tree in trees.values()
            for node in tree.body
            if isinstance(node, ast.ClassDef) and node.name not in known
            for base in node.bases
            if isinstance(base, ast.Name) and base.id in known
        }
        if not more:
            return known
        known |= more


class _Reader:
    """Reads the reasons of one file."""

    def __init__(self, path: Path, tree: ast.Module, classes: dict[str, str]) -> None:
        self._tree, self._classes = tree, classes
        self._place = str(path.relative_to(ROOT))
        self._assigned: dict[str, list[tuple[int, list[ast.AST]]]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                values: list[ast.AST] = [*node.value.values] if isinstance(node.value, ast.Dict) else [node.value]
                self._assigned.setdefault(node.targets[0].id, []).append((node.lineno, values))

    def reasons(self) -> Iterator[Reason]:
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Call):
                yield from self._of_call(node)
            elif isinstance(node, ast.ClassDef) and node.name in self._classes:
                yield from self._of_class(node)
            elif isinstance(node, ast.Dict):
                yield from self._of_table(node)

    def _reason(self, node: ast.expr | None, error: str, words: str) -> Iterator[Reason]:
        for value in self._values(node):
            if REASON.fullmatch(value):
                yield Reason(value, error, words, self._place)

    def _values(self, node: ast.AST | None, depth: int = 2) -> Iterator[str]:
        """Yield the texts that an expression may be; a variable is what was given to it last."""
        for part in ast.walk(node) if node is not None else ():
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield part.value
            elif isinstance(part, ast.Name) and depth:
                for value in self._given(part):
                    yield from self._values(value, depth - 1)

    def _given(self, name: ast.Name) -> list[ast.AST]:
        """Return what the last assignment above a use of a name gives to it; of a table what it leads to."""
        above = [(line, values) for line, values in self._assigned.get(name.id, ()) if line < name.lineno]
        return max(above, key=lambda one: one[0])[1] if above else []

    def _of_class(self, node: ast.ClassDef) -> Iterator[Reason]:
        for line in node.body:
            if isinstance(line, ast.Assign) and any(_text(target) == "default_reason" for target in line.targets):
                words = (ast.get_docstring(node) or "").split("\n")[0]
                yield from self._reason(line.value, self._classes[node.name], words)

    def _of_call(self, node: ast.Call) -> Iterator[Reason]:
        named = {keyword.arg: keyword.value for keyword in node.keywords}
        called = node.func.value if isinstance(node.func, ast.Attribute) and node.func.attr == "of" else node.func
        name = _text(called).rpartition(".")[2]
        if name in FAILURES:
            at, words = FAILURES[name]
            reason = node.args[at] if len(node.args) > at else named.get("reason")
            sentence = node.args[words:] or [value for name, value in named.items() if name == "message"]
            yield from self._reason(reason, "", self._words(sentence))
        elif name == VIOLATION and len(node.args) > 2:
            path = "… " if called is not node.func else ""  # Violation.of puts the field's path first
            yield from self._reason(node.args[2], "Invalid", path + self._words(node.args[1:2]))
        elif name in self._classes:
            yield from self._reason(named.get("reason"), self._classes[name], self._words(node.args[:1]))

    def _of_table(self, node: ast.Dict) -> Iterator[Reason]:
        """Yield the reason of a written outcome: `{"reason": "OUT_OF_MEMORY", "message": …}`."""
        values = {_text(key): value for key, value in zip(node.keys, node.values, strict=True) if key is not None}
        if message := values.get("'message'"):
            yield from self._reason(values.get("'reason'"), "", self._words([message]))

    def _words(self, nodes: Sequence[ast.AST]) -> str:
        """Return the sentence of an error as far as it is written there; what is filled in is an ellipsis."""
        if not nodes:
            return ""
        node = nodes[0]
        if isinstance(node, ast.JoinedStr):
            return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        if isinstance(node, ast.BinOp):
            return self._words([node.left]) + self._words([node.right])
        if isinstance(node, ast.Name):
            given = self._given(node)
            return self._words(given) if given and not isinstance(given[0], ast.Name) else ""
        return str(node.value) if isinstance(node, ast.Constant) else ""


def _text(node: ast.AST) -> str:
    return ast.unparse(node)
