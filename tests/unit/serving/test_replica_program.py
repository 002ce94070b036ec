"""What the program that becomes an engine sets before it does."""

from pathlib import Path

import pytest

from services.chassis.engines import bound_to_cores
from services.serving.worker.engine import architectures_of

pytestmark = pytest.mark.unit


def test_the_engine_is_bound_to_the_cores_of_the_launcher() -> None:
    found = bound_to_cores({"MODELRY_CPUS": "0-1", "OMP_NUM_THREADS": "2", "HOME": "/h"})
    assert found == {"MODELRY_CPUS": "0-1", "VLLM_CPU_OMP_THREADS_BIND": "0-1", "HOME": "/h"}


def test_without_cores_nothing_is_bound() -> None:
    assert bound_to_cores({"OMP_NUM_THREADS": "2"}) == {"OMP_NUM_THREADS": "2"}


def test_a_binding_that_an_operator_set_stays() -> None:
    found = bound_to_cores({"MODELRY_CPUS": "0-1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"})
    assert found["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"


def test_the_engine_reads_which_classes_its_model_needs(tmp_path: Path) -> None:
    arguments = ["--port", "1", "--model", str(tmp_path)]
    assert architectures_of(arguments) == []  # no config.json
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    assert architectures_of(arguments) == ["LlamaForCausalLM"]
    assert architectures_of(["--model"]) == []
    for wrong in ("[]", "{", '{"architectures": 3}', '{"architectures": [1]}'):
        (tmp_path / "config.json").write_text(wrong)
        assert architectures_of(arguments) == []
