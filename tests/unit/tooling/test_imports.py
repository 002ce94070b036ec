"""Where a file may stand, and what it may import: a list of what is allowed, so a new kind of file must be placed here.

Imports only go down: gateway and stages -> clients -> chassis -> stubs. Inside a stage: service and handlers ->
operations -> domain, operations -> store. Inside the chassis: a module imports those of lower floors.
"""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

from deploy.tooling.sources import ROOT, STAGES, imports_in, imports_of, module_of, parse, python_files

pytestmark = pytest.mark.unit

STUBS = frozenset(f"modelry.{path.name}" for path in (ROOT / "sdk/modelry").iterdir() if (path / "v1").is_dir())

# Part of the tree -> the other parts that it may import. A file belongs to the longest name that fits.
PARTS: dict[str, set[str]] = {
    "modelry": {"stubs"},
    "services.chassis": {"stubs"},
    "services.clients": {"stubs", "services.chassis"},
    **{f"services.{stage}": {"stubs", "services.chassis", "services.clients"} for stage in STAGES},
    "gateway": {"stubs", "modelry", "services.chassis", "services.clients"},
    "console": {"stubs", "modelry"},
    "deploy.local": {"stubs", "services.chassis"},
    "deploy.demo": {"stubs", "modelry", "services.chassis", "deploy.local"},
    "deploy.tooling": {"stubs", "modelry", "services.chassis", "deploy.local"},
    "tests": {"stubs", "modelry", "services", "gateway", "console", "deploy"},
}
# Areas whose stubs the chassis may know: they are of no lifecycle stage.
CHASSIS_STUBS = {"modelry.common", "modelry.events", "modelry.admin"}

# A module or package of a stage -> its layer. What is not here has no place yet.
PLACES: dict[str, str] = {
    "__init__": "none",
    "__main__": "main",
    "settings": "settings",
    "service": "service",
    "messages": "service",
    "handlers": "handlers",
    # background work of a stage: loops that call operations
    "control": "background",
    "importer": "background",
    "maintenance": "background",
    "preparer": "background",
    # use cases, one file or many
    "operations": "operations",
    "context": "operations",
    "intake": "operations",
    "queries": "operations",
    # what use cases share: checks, estimates, questions to other stages, what a worker is told
    "checks": "support",
    "clients": "support",
    "estimate": "support",
    "sources": "support",
    "specs": "support",
    "stage": "support",
    "store": "store",
    "domain": "domain",
    # contracts of programs: their services write them, the programs read them
    "import_work": "contract",
    "model_work": "contract",
    "preparation": "contract",
    "work_spec": "contract",
    # libraries of a stage, shared by its service and its worker
    "benchmarks": "library",
    "object_sources": "library",
    "reading": "library",
    "reporting": "library",
    "scoring": "library",
    "worker": "worker",
    "migrations": "migrations",
}
# Layer -> the layers of the same stage that it may import.
LAYERS: dict[str, set[str]] = {
    "none": set(),
    "main": set(PLACES.values()) - {"worker", "migrations"},
    "settings": set(),
    "service": {"contract", "operations", "support", "domain", "library"},
    "handlers": {"operations", "domain"},
    "background": {"operations", "support", "contract", "store", "domain", "library", "settings"},
    "operations": {"support", "contract", "store", "domain", "library", "settings"},
    "support": {"contract", "store", "domain", "library", "settings"},
    "store": {"domain"},
    "domain": set(),
    "contract": {"domain", "library"},
    "library": {"domain"},
    "worker": {"contract", "library"},
    "migrations": set(),
}

# The chassis from the ground up: a module imports those of lower floors only.
FLOORS: tuple[set[str], ...] = (
    {"listening", "masking"},
    {"clock", "direct", "engines", "errors", "files", "ids", "locations", "settings", "tasks", "vault"},
    {"auth", "field_options", "launch", "money", "names", "paths", "readiness", "telemetry", "transitions"},
    {"background", "events", "objects", "proto_values", "rpc"},
    {"bus", "data", "worker"},
    {"delivery", "garbage", "holds", "probes"},
    {"admin", "reporting"},
    {"jobs"},
    {"host"},
)
# Programs and modules that are run or handed on as they are, beside what their package exports.
HANDED_ON = {"services.chassis.launch.shim", "services.chassis.worker.chat"}

HEAVY = {"torch", "transformers", "peft", "deepspeed", "vllm", "safetensors", "gguf", "accelerate"}
# Modules of the chassis that rules may use.
PURE_CHASSIS = {
    "services.chassis.engines.adapters",
    "services.chassis.errors",
    "services.chassis.ids",
    "services.chassis.jobs.domain",
    "services.chassis.locations",
    "services.chassis.money",
    "services.chassis.names",
    "services.chassis.objects.stored_files",
    "services.chassis.transitions",
}
IMPURE = {"asyncio", "socket", "subprocess", "threading", "sqlite3", "time", "os", "shutil", "tempfile", "random"}

# Offences of today by how their line begins, each with what ends it: the list only shrinks.
KNOWN: dict[str, str] = {}


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@cache
def is_module(name: str) -> bool:
    path = ROOT / ("sdk" if inside(name, "modelry") else "") / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").exists()


@cache
def part_of(module: str) -> str:
    """The part of the tree that a module belongs to; nothing for what is not of this tree."""
    if any(inside(module, stub) for stub in STUBS):
        return "stubs"
    fitting = [part for part in PARTS if inside(module, part)]
    return max(fitting, key=len) if fitting else ""


@cache
def defined_at(name: str) -> str:
    """A name that a package of the tree exports, by the module that defines it; anything else as it is."""
    package, _, leaf = name.rpartition(".")
    door = ROOT / package.replace(".", "/") / "__init__.py"
    if not package.startswith("services.") or not door.exists():
        return name
    for node in parse(door).body:
        if isinstance(node, ast.ImportFrom) and leaf in {alias.name for alias in node.names}:
            return f"{node.module}.{leaf}"
    return name


def expect_only_known(offences: list[str]) -> None:
    """Every offence is a known one."""
    assert [line for line in offences if not line.startswith(tuple(KNOWN))] == []


def line_of(path: Path, imported: str) -> str:
    return f"{path.relative_to(ROOT)} imports {imported}"


HAND_WRITTEN = python_files("sdk", "services", "gateway", "console", "deploy")


def test_every_file_has_a_place() -> None:
    files = [*HAND_WRITTEN, *python_files("tests")]
    folders = {"services/__init__.py", "deploy/__init__.py"}
    homeless = [str(path.relative_to(ROOT)) for path in files if not part_of(module_of(path))]
    assert [name for name in homeless if name not in folders] == []


def test_imports_only_go_down() -> None:
    offences = []
    for path in HAND_WRITTEN:
        part = part_of(module_of(path))
        for name in imports_of(path):
            target = part_of(name)
            if target and target != part and target not in PARTS.get(part, set()):
                offences.append(line_of(path, name))
    expect_only_known(offences)


def test_chassis_names_no_stage() -> None:
    offences = [
        line_of(path, name)
        for path in python_files("services/chassis")
        for name in imports_of(path)
        if part_of(name) == "stubs" and ".".join(name.split(".")[:2]) not in CHASSIS_STUBS
    ]
    expect_only_known(offences)


def test_a_name_given_to_an_import_function_counts() -> None:
    source = (
        "import importlib\nfrom . import store\nimportlib.import_module('services.training')\n__import__('gateway')"
    )
    found = set(imports_in(ast.parse(source), ["services", "access"]))
    assert {"services.training", "gateway", "services.access.store"} <= found


def test_a_package_of_the_chassis_is_used_through_its_init() -> None:
    offences = []
    for path in HAND_WRITTEN:
        own = module_of(path).split(".")[:3]
        for name in imports_of(path):
            words = name.split(".")
            if words[:2] == ["services", "chassis"] and len(words) > 3 and words[:3] != own and is_module(name):
                offences.append(line_of(path, name))
    assert [line for line in offences if line.rpartition(" ")[2] not in HANDED_ON] == []


def floor_of(module: str) -> int:
    """The floor of a module of the chassis; -1 when it has none."""
    return next((number for number, names in enumerate(FLOORS) if module in names), -1)


def test_the_chassis_is_built_in_floors() -> None:
    offences = []
    for path in python_files("services/chassis"):
        words = module_of(path).split(".")
        if len(words) < 3:
            continue
        own = words[2]
        assert floor_of(own) >= 0, f"services.chassis.{own} stands on no floor of FLOORS"
        for name in imports_of(path):
            target = name.split(".")[2] if name.startswith("services.chassis.") else own
            if target != own and is_module(f"services.chassis.{target}") and floor_of(target) >= floor_of(own):
                offences.append(line_of(path, name))
    expect_only_known(offences)


@pytest.mark.parametrize("stage", STAGES)
def test_layers_of_a_stage_point_one_way(stage: str) -> None:
    offences = []
    for path in python_files(f"services/{stage}"):
        place = path.relative_to(ROOT).with_suffix("").parts[2]
        assert place in PLACES, f"{path.relative_to(ROOT)}: a {place!r} of a stage has no layer in PLACES"
        for name in imports_of(path):
            words = name.split(".")
            if words[:2] != ["services", stage] or len(words) < 3 or not is_module(".".join(words[:3])):
                continue
            layer, target = PLACES[place], PLACES.get(words[2], "none")
            if target != layer and target not in LAYERS[layer]:
                offences.append(line_of(path, name))
    expect_only_known(offences)


def test_heavy_libraries_are_imported_by_worker_programs_only() -> None:
    offences = [
        line_of(path, name)
        for path in HAND_WRITTEN
        for name in imports_of(path)
        if "worker" not in path.parts and name.split(".")[0] in HEAVY
    ]
    assert offences == []


def is_rule(path: Path) -> bool:
    return path.name == "domain.py" or path.parent.name == "domain"


def test_rules_are_pure() -> None:
    offences = []
    for path in filter(is_rule, python_files("services")):
        module = module_of(path)
        own = module if path.name in ("domain.py", "__init__.py") else module.rpartition(".")[0]
        for name in map(defined_at, imports_of(path)):
            library = name.split(".")[0]
            if library in IMPURE or not (
                library in sys.stdlib_module_names
                or inside(name, own)
                or any(inside(name, pure) or inside(pure, name) for pure in PURE_CHASSIS)
            ):
                offences.append(line_of(path, name))
    expect_only_known(offences)


def test_no_known_offence_is_listed_after_its_end() -> None:
    lines = [line_of(path, name) for path in HAND_WRITTEN for name in map(defined_at, imports_of(path))]
    assert [known for known in KNOWN if not any(line.startswith(known) for line in lines)] == []
