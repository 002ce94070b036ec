"""The chassis names no lifecycle stage, not even in a string or a setting (imports are test_imports.py's)."""

import ast
import re

import pytest

from deploy.tooling.sources import ROOT, STAGES, parse, python_files

pytestmark = pytest.mark.unit
NAMED = "|".join((*STAGES, "billing"))
# A module, a proto package, a service or an address of a stage; the word `training` in a sentence names none.
STAGE = re.compile(rf"\b(?:services|modelry)\.(?:clients\.)?(?:{NAMED})\b|\b(?:{NAMED})_address\b")
# It is told on the command line which service it drafts a migration for.
TOLD_BY_ITS_CALLER = "services/chassis/data/migration.py"
IMPORTING = {"import_module", "__import__", "find_spec", "resolve_name"}


def docstrings(tree: ast.AST) -> set[int]:
    """Ids of the nodes that are docstrings: their examples may name a stage."""
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, owners) and node.body]
    return {id(body[0].value) for body in bodies if isinstance(body[0], ast.Expr)}


def test_no_string_names_a_stage() -> None:
    wrong = []
    for path in python_files("services/chassis"):
        tree = parse(path)
        spared = docstrings(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in spared:
                wrong += [f"{path.relative_to(ROOT)}: {node.value!r}"] if STAGE.search(node.value) else []
    assert wrong == []


def test_nothing_is_imported_by_a_name_that_is_put_together() -> None:
    wrong = []
    for path in python_files("services/chassis"):
        for node in ast.walk(parse(path)):
            called = node.func if isinstance(node, ast.Call) else None
            if {getattr(called, "attr", ""), getattr(called, "id", "")} & IMPORTING:
                wrong.append(str(path.relative_to(ROOT)))
    assert wrong == [TOLD_BY_ITS_CALLER]


def test_no_setting_of_every_process_names_a_stage() -> None:
    from services.chassis.settings import Settings

    assert [name for name in Settings.model_fields if STAGE.search(name)] == []


@pytest.mark.parametrize(
    "text", ["services.training", "modelry.billing.v1", "services.clients.registry", "serving_address"]
)
def test_what_counts_as_a_name(text: str) -> None:
    assert STAGE.search(text) and not STAGE.search("The training of a model")
