"""Imports only go down: gateway and stages -> chassis -> stubs; a stage never imports a stage."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[3]
STAGES = ("dataset", "training", "registry", "evaluation", "serving", "access")
HEAVY = {"torch", "transformers", "peft", "deepspeed", "vllm", "safetensors", "gguf", "accelerate"}
# What a layer of a service folder may import of its own folder (STYLE.md, "Flow").
LAYERS = {
    "service": {"operations", "domain"},
    "handlers": {"operations", "domain"},
    "operations": {"domain", "store"},
    "store": {"domain"},
    "domain": set(),
}
# Pure modules of the chassis, which rules may use.
PURE_CHASSIS = {"services.chassis.errors", "services.chassis.ids", "services.chassis.jobs.domain"}


def python_files(*folders: str) -> list[Path]:
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(path for path in found if not path.name.endswith(("_pb2.py", "_pb2_grpc.py")))


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file names in an import statement, absolute."""
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            name = ".".join(part for part in (start, node.module or "") if part)
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)


def defined_at(name: str) -> str:
    """A name that a chassis package exports, by the module that defines it; anything else as it is."""
    package, _, leaf = name.rpartition(".")
    door = ROOT / package.replace(".", "/") / "__init__.py"
    if not package.startswith("services.chassis") or not door.exists():
        return name
    for node in ast.parse(door.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and leaf in {alias.name for alias in node.names}:
            return f"{node.module}.{leaf}"
    return name


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def offences(files: list[Path], forbidden: tuple[str, ...]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imports_of(path)
        if any(inside(name, package) for package in forbidden)
    ]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_no_other_stage_and_not_the_edge(stage: str) -> None:
    others = tuple(f"services.{other}" for other in STAGES if other != stage)
    assert offences(python_files(f"services/{stage}"), (*others, "gateway", "deploy")) == []


def test_chassis_knows_no_stage() -> None:
    stages = tuple(f"services.{stage}" for stage in STAGES)
    assert offences(python_files("services/chassis"), (*stages, "gateway", "deploy")) == []


def test_a_chassis_package_is_used_through_its_door() -> None:
    packages = [path.parent for path in (ROOT / "services/chassis").glob("*/__init__.py")]
    wrong = []
    for path in python_files("services", "gateway", "deploy"):
        for package in packages:
            modules = {f"services.chassis.{package.name}.{one.stem}" for one in package.glob("*.py")}
            if package not in path.parents:
                wrong += [f"{path.relative_to(ROOT)} imports {name}" for name in imports_of(path) if name in modules]
    # Programs of one file that are run or handed on as they are.
    shared_modules = ("services.chassis.launch.shim", "services.chassis.worker.chat")
    assert [line for line in wrong if not line.endswith(shared_modules)] == []


def test_gateway_imports_no_stage() -> None:
    stages = tuple(f"services.{stage}" for stage in STAGES)
    assert offences(python_files("gateway"), (*stages, "deploy")) == []


def test_client_stands_alone() -> None:
    assert offences(python_files("sdk"), ("services", "gateway", "deploy")) == []


def test_the_deployment_needs_no_service_to_be_imported() -> None:
    stages = tuple(f"services.{stage}" for stage in STAGES)
    assert offences(python_files("deploy/local"), (*stages, "gateway")) == []


def test_heavy_libraries_are_imported_by_worker_programs_only() -> None:
    files = [path for path in python_files("services", "gateway", "deploy/local", "sdk") if "worker" not in path.parts]
    assert offences(files, tuple(HEAVY)) == []


@pytest.mark.parametrize("stage", STAGES)
def test_layers_point_one_way(stage: str) -> None:
    wrong = []
    for layer, allowed in LAYERS.items():
        for path in layer_files(stage, layer):
            forbidden = tuple(f"services.{stage}.{other}" for other in LAYERS if other not in allowed | {layer})
            wrong += offences([path], forbidden)
    assert wrong == []


def layer_files(stage: str, layer: str) -> list[Path]:
    """A layer is a module, or a package of that name once it is past 300 lines."""
    folder = ROOT / "services" / stage
    return [path for path in (folder / f"{layer}.py", *(folder / layer).rglob("*.py")) if path.exists()]


def test_rules_are_pure() -> None:
    wrong = []
    for path in sorted((ROOT / "services").rglob("domain.py")):
        own = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for name in map(defined_at, imports_of(path)):
            pure = name.split(".")[0] in sys.stdlib_module_names or name == "__future__"
            allowed = any(inside(name, module) for module in (*PURE_CHASSIS, own))
            package = name in ("services", "services.chassis", "services.chassis.jobs", own.rpartition(".")[0])
            if not (pure or allowed or package):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
            if name.split(".")[0] in ("asyncio", "socket", "subprocess", "threading", "sqlite3", "time"):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}, which is no rule")
    assert wrong == []


def test_files_stay_readable() -> None:
    too_long = {
        str(path.relative_to(ROOT)): count
        for path in python_files("services", "gateway", "deploy", "sdk")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > 500
    }
    assert too_long == {}
