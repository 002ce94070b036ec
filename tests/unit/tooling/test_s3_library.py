"""The S3 library takes long to load: one module imports it, and is itself imported only where a client is made."""

import ast

import pytest

from deploy.tooling.sources import ROOT, parse, python_files

pytestmark = pytest.mark.unit
ONE_MODULE = "services/chassis/objects/s3.py"
S3_LIBRARY = {"boto3", "botocore", "s3transfer"}


def test_no_module_loads_the_s3_library_when_it_is_imported() -> None:
    early = []
    for path in python_files("services", "gateway", "deploy/local"):
        if path == ROOT / ONE_MODULE:
            continue
        for node in parse(path).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            wrong = (name for name in names if name.split(".")[0] in S3_LIBRARY or name.endswith("objects.s3"))
            early += [f"{path.relative_to(ROOT)} imports {name}" for name in wrong]
    assert early == []
