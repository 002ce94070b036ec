"""The S3 library takes long to load: the functions that need it import it, so that no service waits for it to start."""

import ast

import pytest

from tests.unit.tooling.test_imports import ROOT, python_files

pytestmark = pytest.mark.unit
S3_LIBRARY = {"boto3", "botocore", "s3transfer"}


def test_no_module_loads_the_s3_library_when_it_is_imported() -> None:
    early = []
    for path in python_files("services", "gateway", "deploy/local"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            early += [f"{path.relative_to(ROOT)} imports {name}" for name in names if name.split(".")[0] in S3_LIBRARY]
    assert early == []
