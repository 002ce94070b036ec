"""The chassis knows no lifecycle stage: it imports none, its API neither, and asks for none by a name in a string."""

import ast
import re
from pathlib import Path

import pytest

from tests.unit.tooling.test_imports import ROOT, imports_of, inside, python_files

pytestmark = pytest.mark.unit
STAGES = ("dataset", "training", "registry", "evaluation", "serving", "access", "billing")
FORBIDDEN = ("services.clients", *(f"{root}.{stage}" for root in ("services", "modelry") for stage in STAGES))
# The tool that drafts migrations is told on the command line which service it drafts for.
TOLD_BY_ITS_CALLER = "services/chassis/data/migration.py"
DYNAMIC = {"import_module", "__import__", "find_spec", "resolve_name"}


def dynamic_imports(path: Path) -> list[str]:
    """Calls that import what a string names."""
    return [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and (getattr(node.func, "attr", "") in DYNAMIC or getattr(node.func, "id", "") in DYNAMIC)
    ]


def names_a_stage(text: str) -> bool:
    """A module, a proto package or a service of a stage; a plain word such as `training` in a sentence is none."""
    stages = "|".join(STAGES)
    return bool(re.search(rf"\b(?:services|modelry)\.(?:clients\.)?(?:{stages})\b|\b(?:{stages})_address\b", text))


def docstrings(tree: ast.AST) -> set[int]:
    """Ids of the nodes that are docstrings: examples in them may name a stage."""
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, owners) and node.body]
    return {id(body[0].value) for body in bodies if isinstance(body[0], ast.Expr)}


CHASSIS = python_files("services/chassis")


def test_no_import_names_a_stage() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in CHASSIS
        for name in imports_of(path)
        if any(inside(name, forbidden) for forbidden in FORBIDDEN)
    ]
    assert wrong == []


def test_nothing_is_imported_by_a_name_in_a_string() -> None:
    files = [path for path in CHASSIS if path != ROOT / TOLD_BY_ITS_CALLER]
    assert [call for path in files for call in dynamic_imports(path)] == []


def test_no_string_names_a_stage() -> None:
    wrong = []
    for path in CHASSIS:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        spared = docstrings(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in spared:
                wrong += [f"{path.relative_to(ROOT)}: {node.value!r}"] if names_a_stage(node.value) else []
    assert wrong == []


def test_no_setting_of_every_process_names_a_stage() -> None:
    from services.chassis.settings import Settings

    assert [name for name in Settings.model_fields if name.split("_")[0] in STAGES and name.endswith("_address")] == []


@pytest.mark.parametrize("stage", STAGES)
def test_clients_and_gateway_stand_between_stages_and_chassis(stage: str) -> None:
    files = python_files("services/clients", "gateway")
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imports_of(path)
        if inside(name, f"services.{stage}") or (inside(name, "gateway") and "gateway" not in path.parts)
    ]
    assert wrong == []
