"""Reads the Python files of the repository: which there are, and what each imports."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("dataset", "training", "registry", "evaluation", "serving", "access")
GENERATED = ("_pb2.py", "_pb2_grpc.py")
# Functions that import a module that they are given by name.
DYNAMIC = ("import_module", "__import__")


def python_files(*folders: str) -> list[Path]:
    """Return the hand-written Python files below folders of the repository, sorted."""
    return [path for folder in folders for path in _python_files(folder)]


@cache
def _python_files(folder: str) -> tuple[Path, ...]:
    return tuple(sorted(path for path in (ROOT / folder).rglob("*.py") if not path.name.endswith(GENERATED)))


def module_of(path: Path) -> str:
    """Return the dotted name of a file; the package's for `__init__.py`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "sdk" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def parse(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def imports_of(path: Path) -> tuple[str, ...]:
    """Return every module that a file imports, absolute, and every name that it takes from one; dynamic imports too."""
    package = module_of(path).split(".")
    return tuple(imports_in(parse(path), package if path.name == "__init__.py" else package[:-1]))


def imports_in(tree: ast.Module, package: list[str]) -> Iterator[str]:
    """Yield what a module of a package imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            name = ".".join(part for part in (start, node.module or "") if part)
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and _name_of(node.func) in DYNAMIC:
            named = node.args[0]
            if isinstance(named, ast.Constant) and isinstance(named.value, str):
                yield named.value


def _name_of(called: ast.expr) -> str:
    return called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
