"""The S3 library takes long to load: `s3` and its parts import it, and functions that need a client import `s3`."""

import ast

import pytest

from deploy.tooling.sources import ROOT, imports_in, imports_of, parse, python_files

pytestmark = pytest.mark.unit
S3_LIBRARY = {"boto3", "botocore", "s3transfer"}
LATE = {f"services/chassis/objects/{name}.py" for name in ("s3", "connections", "learning")}


def test_s3_and_its_parts_alone_import_the_s3_library() -> None:
    files = python_files("services", "gateway", "deploy/local")
    users = {
        str(path.relative_to(ROOT)) for path in files for name in imports_of(path) if name.split(".")[0] in S3_LIBRARY
    }
    assert users == LATE


def test_no_module_loads_it_when_it_is_imported() -> None:
    early = []
    for path in python_files("services", "gateway", "deploy/local"):
        at_once = [node for node in parse(path).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = imports_in(ast.Module(list(at_once), []), list(path.relative_to(ROOT).parts[:-1]))
        late = {one.removesuffix(".py").replace("/", ".") for one in LATE}
        early += [str(path.relative_to(ROOT)) for name in names if any(name.startswith(one) for one in late)]
    assert set(early) <= LATE
