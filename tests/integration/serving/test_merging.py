"""The one-shot programs on a real model: merge a real adapter, describe its chats."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from services.chassis.worker import log_probabilities, mean_difference
from services.serving.model_work import ModelWork, WorkKind
from tests.tiny_model import build_tiny_model

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared base: weights, tokenizer and their description."""
    from services.registry.worker.describing import describe

    folder = build_tiny_model(tmp_path_factory.mktemp("base") / "model")
    (folder / "generation_config.json").write_text('{"temperature": 0.7, "eos_token_id": 2}')
    describe(folder)
    return folder


def make_adapter(base: Path, folder: Path, scale: float) -> Path:
    """A LoRA adapter with random weights of this size."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    tuned = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM"))
    torch.manual_seed(1)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, scale)
    tuned.save_pretrained(folder)
    return folder


def run_program(folder: Path, work: ModelWork) -> tuple[int, dict[str, Any], str]:
    """The program as the launcher starts it: its exit code, what it wrote, and the last line that it said."""
    folder.mkdir()
    (folder / "spec.json").write_text(json.dumps(work.to_json()))
    command = [sys.executable, "-m", "services.serving.worker", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, json.loads((folder / "result.json").read_text()), done.stdout.strip().splitlines()[-1]


def run(folder: Path, base: Path, adapter: Path, output: Path) -> tuple[int, dict[str, Any]]:
    """A merge: its exit code and what it wrote."""
    code, outcome, last = run_program(folder, ModelWork(WorkKind.MERGE, base, output, adapter))
    assert outcome["ok"] or last == outcome["message"]
    return code, outcome


def test_merging_gives_a_whole_model_that_says_what_base_and_adapter_said(base: Path, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapter = make_adapter(base, tmp_path / "adapter", 0.02)
    code, outcome = run(tmp_path / "work", base, adapter, tmp_path / "merged")
    assert code == 0 and outcome["ok"]
    assert outcome["result"]["dtype"] == "bfloat16" and outcome["result"]["mean_difference"] < 0.05
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert merged.dtype == torch.bfloat16
    for name in ("tokenizer.json", "modelry.json", "generation_config.json"):
        assert (tmp_path / "merged" / name).read_bytes() == (base / name).read_bytes()
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    ids = json.loads((base / "modelry.json").read_text())["samples"][0]["token_ids"]
    before = log_probabilities(plain, ids)
    tuned = log_probabilities(PeftModel.from_pretrained(plain, adapter), ids)
    found = log_probabilities(merged, ids)
    # The adapter changed the model, and the merged one follows it and not the base.
    assert mean_difference([found], [tuned]) < mean_difference([found], [before]) / 5
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_merged_model_that_is_there_is_kept(base: Path, tmp_path: Path) -> None:
    output = tmp_path / "merged"
    output.mkdir()
    (output / "mark").touch()
    code, outcome = run(tmp_path / "work", base, tmp_path / "no-adapter", output)
    assert (code, outcome) == (0, {"format": 1, "ok": True, "result": {"existed": True}})
    assert (output / "mark").exists()


def test_what_is_no_adapter_is_refused_in_words(base: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    code, outcome = run(tmp_path / "work", base, tmp_path / "adapter", tmp_path / "merged")
    assert code == 1 and outcome["user"] and outcome["reason"] == "INVALID_ADAPTER"
    assert not (tmp_path / "merged").exists()


def test_an_adapter_that_breaks_the_model_is_not_merged(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(base, tmp_path / "adapter", float("inf"))
    code, outcome = run(tmp_path / "work", base, adapter, tmp_path / "merged")
    assert code == 1 and not outcome["ok"]
    assert not (tmp_path / "merged").exists()


def test_describing_gives_what_the_registry_writes_beside_a_base(base: Path, tmp_path: Path) -> None:
    output = tmp_path / "described" / "model.json"
    code, outcome, _ = run_program(tmp_path / "work", ModelWork(WorkKind.DESCRIBE, base, output))
    assert code == 0 and outcome["ok"]
    assert json.loads(output.read_text()) == json.loads((base / "modelry.json").read_text())
