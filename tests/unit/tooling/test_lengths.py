"""How long files and functions may be: 300 and 40 lines; 500 is the end. What is longer says here why."""

import ast
from pathlib import Path

import pytest

from deploy.tooling.sources import ROOT, parse, python_files

pytestmark = pytest.mark.unit

FILE_LINES = 300
FILE_LINES_AT_MOST = 500
FUNCTION_LINES = 40

# File -> why it is longer than 300 lines.
LONG_FILES = {
    "services/chassis/worker/chat.py": "one way from a conversation to tokens, read as a whole, for three programs",
    "tests/chaos/chassis/bus/test_bus_promises.py": "one promise after the other on one fixture",
    "tests/contract/chassis/data/test_repository.py": "one suite for SQLite and PostgreSQL",
    "tests/integration/chassis/bus/test_bus.py": "one suite on one server",
    "tests/integration/chassis/rpc/test_rpc.py": "one suite on one server",
    "tests/integration/dataset/test_imports.py": "one suite on one service",
    "tests/unit/dataset/test_importing.py": "one suite of formats",
}
# Function -> why it has more than 40 lines beside its docstring.
LONG_FUNCTIONS = {
    "tests/integration/dataset/conftest.py::world": "wires a service, as its __main__ does",
    "tests/integration/evaluation/test_service.py::test_the_whole_way_from_create_to_report_and_delete": "a journey",
}


def files() -> list[Path]:
    found = python_files("sdk", "services", "gateway", "console", "deploy", "tests")
    return [path for path in found if "migrations" not in path.parts]


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    first = function.body[0]
    docstring = ast.get_docstring(function) is not None
    return (
        (function.end_lineno or 0)
        - function.lineno
        + 1
        - ((first.end_lineno or 0) - first.lineno + 1 if docstring else 0)
    )


def long_functions() -> set[str]:
    return {
        f"{path.relative_to(ROOT)}::{node.name}"
        for path in files()
        for node in ast.walk(parse(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines_of(node) > FUNCTION_LINES
    }


def test_files_stay_readable() -> None:
    counts = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in files()}
    long = {name: count for name, count in counts.items() if count > FILE_LINES}
    assert {name: count for name, count in long.items() if name not in LONG_FILES} == {}
    assert {name: count for name, count in long.items() if count > FILE_LINES_AT_MOST} == {}
    assert [name for name in LONG_FILES if name not in long] == [], "these files need no excuse any more"


def test_functions_stay_readable() -> None:
    long = long_functions()
    assert sorted(long - LONG_FUNCTIONS.keys()) == []
    assert sorted(LONG_FUNCTIONS.keys() - long) == [], "these functions need no excuse any more"
