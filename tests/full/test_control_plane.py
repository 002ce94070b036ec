"""All services and the gateway run where neither torch nor transformers nor vLLM is installed."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tomllib
import venv
from pathlib import Path

import pytest

from deploy.local.home import STAGES
from deploy.tooling.environment import CONSTRAINTS
from deploy.tooling.sources import ROOT
from tests.stack import environment, free_port

pytestmark = [pytest.mark.full, pytest.mark.timeout(1800)]

HEAVY = ("torch", "transformers", "vllm", "deepspeed", "peft", "safetensors")


@pytest.fixture(scope="session")
def control_plane() -> Path:
    """The Python of an environment with the dependencies of a control plane only; it is built once and kept."""
    server = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    client = tomllib.loads((ROOT / "sdk/pyproject.toml").read_text())["project"]["dependencies"]
    wanted = [*(line for line in server if not line.startswith("modelry==")), *client, "setuptools>=77"]
    digest = hashlib.sha256(" ".join([str(ROOT), *wanted, CONSTRAINTS.read_text()]).encode()).hexdigest()[:16]
    folder = ROOT / ".cache" / f"control-plane-{digest}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, symlinks=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*pip, "-c", str(CONSTRAINTS), *wanted])
        run([*pip, "--no-deps", "--no-build-isolation", "--editable", str(ROOT / "sdk"), "--editable", str(ROOT)])
        (folder / "ready").touch()
    return python


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_control_plane_needs_no_library_of_workers(control_plane: Path, tmp_path: Path) -> None:
    look = f"import importlib.util; print([n for n in {HEAVY} if importlib.util.find_spec(n)])"
    assert run([str(control_plane), "-c", look]).strip() == "[]"
    modelry = [str(control_plane), "-m", "modelry.cli"]
    home = ["--home", str(tmp_path / "home")]
    ports = [word for name in ("--port", "--grpc-port", "--nats-port") for word in (name, str(free_port()))]
    try:
        run([*modelry, "up", "--detach", *ports, *home])
        status = json.loads(run([*modelry, "status", "--json", *home]))
        assert status["ready"], status
        assert {*STAGES, "gateway"} <= {process["name"] for process in status["processes"]}
        assert json.loads(run([*modelry, "models", "list", "--json", *home])), "the presets are listed"
    finally:
        run([*modelry, "down", *home])
