"""The S3 library takes long to load: one module imports it, and is imported by the functions that need a client."""

import ast

import pytest

from deploy.tooling.sources import ROOT, imports_in, imports_of, parse, python_files

pytestmark = pytest.mark.unit
ONE_MODULE = "services/chassis/objects/s3.py"
S3_LIBRARY = {"boto3", "botocore", "s3transfer"}
LATE = "services/chassis/objects/s3.py"


def test_one_module_imports_the_s3_library() -> None:
    files = python_files("services", "gateway", "deploy/local")
    users = {
        str(path.relative_to(ROOT)) for path in files for name in imports_of(path) if name.split(".")[0] in S3_LIBRARY
    }
    assert users == {LATE}


def test_no_module_loads_it_when_it_is_imported() -> None:
    early = []
    for path in python_files("services", "gateway", "deploy/local"):
        at_once = [node for node in parse(path).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = imports_in(ast.Module(list(at_once), []), list(path.relative_to(ROOT).parts[:-1]))
        early += [str(path.relative_to(ROOT)) for name in names if name.startswith("services.chassis.objects.s3")]
    assert early == []
