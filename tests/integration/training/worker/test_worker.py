"""The training program on a tiny model: whole checkpoints, exact resumption, ranks, stops and refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.chassis.objects import Manifest, NodeCache, ObjectStore
from tests.integration.training.worker.world import Program, World, conversations, kill_second_rank, resume_from

pytestmark = pytest.mark.integration


def test_a_run_reports_its_steps_and_whole_checkpoints(world: World) -> None:
    ended = world.run(world.work([world.dataset("a", conversations(20))], validation_ratio=0.2))
    assert ended.code == 0, ended.log
    losses = ended.values("loss")
    assert sorted(losses) == list(range(1, 9))
    assert losses[8] < losses[1]
    assert sorted(ended.values("validation_loss")) == [4, 8]
    first, last = ended.of("checkpoint")
    assert (first["step"], last["step"]) == (4, 8)
    assert last["epoch"] == 2
    assert last["prefix"].endswith("attempt-1/checkpoint-8")
    assert last["metrics"]["validation_loss"] == pytest.approx(ended.values("validation_loss")[8])
    assert last["fingerprint"].startswith("sha256:")
    assert ended.of("finished")[0]["result"]["steps"] == 8
    assert [report["kind"] for report in ended.reports][-1] == "finished"


def test_the_adapter_names_its_base_and_changes_its_answers(world: World) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    ended = world.run(world.work([world.dataset("a", conversations(12))]))
    checkpoint = ended.of("checkpoint")[-1]
    manifest = Manifest.from_json(checkpoint["adapter_manifest"])
    prefix = f"{checkpoint['prefix']}/adapter"
    store = ObjectStore(world.access)
    folder = NodeCache(world.folder / "adapters").fetch(store, checkpoint["bucket"], prefix, manifest)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "mv-tiny@sha256:tiny"
    assert str(world.folder) not in json.dumps(config)
    base = AutoModelForCausalLM.from_pretrained(world.model, dtype=torch.float32)
    ids = torch.tensor([[5, 6, 7]])
    before = base(ids).logits
    tuned = PeftModel.from_pretrained(base, folder)
    assert not torch.equal(before, tuned(ids).logits)


@pytest.mark.parametrize("compute_type", ["FP32", "BF16"])
def test_a_resumed_run_is_bit_equal_to_one_that_was_never_broken(world: World, compute_type: str) -> None:
    data = world.dataset("a", conversations(20))
    settings: dict[str, Any] = {
        "compute_type": compute_type, "lora_dropout": 0.1, "neftune_alpha": 5, "lora_plus_ratio": 4,
        "checkpoint_interval": 4, "validation_ratio": 0.2, "weight_decay": 0.01,
    }  # fmt: skip
    whole = world.run(world.work([data], **settings))
    assert whole.code == 0, whole.log
    resumed = world.run(world.work([data], **settings, resume=resume_from(whole.of("checkpoint")[0])))
    assert resumed.code == 0, resumed.log
    for name in ("loss", "gradient_norm", "token_accuracy", "trained_tokens", "learning_rate"):
        expected = {step: value for step, value in whole.values(name).items() if step > 4}
        assert resumed.values(name) == expected, name
    assert resumed.values("validation_loss")[8] == whole.values("validation_loss")[8]
    last, again = whole.of("checkpoint")[-1], resumed.of("checkpoint")[-1]
    assert last["adapter_manifest"]["digest"] == again["adapter_manifest"]["digest"]


def test_a_stop_ends_at_the_next_step_with_a_whole_checkpoint(world: World) -> None:
    data = world.dataset("a", conversations(40))
    whole = world.run(world.work([data], epochs=6))
    stopped = world.run(world.work([data], epochs=6), at_step=5)
    assert stopped.code == 0, stopped.log
    step = stopped.of("stopped")[0]["step"]
    assert 5 <= step < 60
    checkpoint = stopped.of("checkpoint")[-1]
    assert checkpoint["step"] == step
    assert not stopped.of("finished")
    resumed = world.run(world.work([data], epochs=6, resume=resume_from(checkpoint)))
    assert resumed.values("loss") == {n: value for n, value in whole.values("loss").items() if n > step}


def test_two_ranks_have_the_losses_of_one(world: World) -> None:
    data = world.dataset("a", conversations(22))
    settings: dict[str, Any] = {"validation_ratio": 0.2, "epochs": 3}
    alone = world.run(world.work([data], **settings, batch_size=8))
    together = world.run(world.work([data], **settings, batch_size=4, world_size=2), ranks=2)
    assert together.code == 0, together.log
    for name in ("loss", "gradient_norm", "validation_loss"):
        assert together.values(name) == pytest.approx(alone.values(name), abs=1e-4), name
    middle = together.of("checkpoint")[0]
    resumed = world.run(world.work([data], **settings, batch_size=4, world_size=2, resume=resume_from(middle)), ranks=2)
    expected = {step: value for step, value in together.values("loss").items() if step > middle["step"]}
    assert resumed.values("loss") == pytest.approx(expected, abs=1e-6)


def test_a_stop_reaches_every_rank(world: World) -> None:
    data = world.dataset("a", conversations(40))
    stopped = world.run(world.work([data], epochs=200, world_size=2, batch_size=2), ranks=2, at_step=3)
    step = stopped.of("stopped")[0]["step"]
    assert stopped.of("checkpoint")[-1]["step"] == step
    assert not stopped.of("failed")


def test_one_dead_rank_ends_the_attempt(world: World) -> None:
    work = world.work([world.dataset("a", conversations(40))], epochs=500, world_size=2, batch_size=2)
    ended = world.run(work, ranks=2, at_step=3, happens=kill_second_rank)
    assert ended.code != 0
    assert not ended.of("finished") and not ended.of("stopped")


def test_after_a_kill_the_last_whole_checkpoint_leads_to_the_same_losses(world: World) -> None:
    data = world.dataset("a", conversations(40))
    whole = world.run(world.work([data], epochs=5, checkpoint_interval=5))
    killed = world.run(world.work([data], epochs=5, checkpoint_interval=5), at_step=12, happens=Program.kill)
    checkpoint = killed.of("checkpoint")[-1]
    resumed = world.run(world.work([data], epochs=5, checkpoint_interval=5, resume=resume_from(checkpoint)))
    assert resumed.values("loss") == {n: value for n, value in whole.values("loss").items() if n > checkpoint["step"]}


def test_the_loss_does_not_depend_on_accumulation(world: World) -> None:
    data = world.dataset("a", conversations(20))
    one = world.run(world.work([data], batch_size=8, gradient_accumulation=1))
    four = world.run(world.work([data], batch_size=2, gradient_accumulation=4))
    assert four.values("loss") == pytest.approx(one.values("loss"), abs=1e-5)
    assert four.values("gradient_norm") == pytest.approx(one.values("gradient_norm"), rel=1e-3)


def test_refused_rows_are_named_and_the_others_trained_on(world: World) -> None:
    rows = conversations(8)
    rows[2] = [{"role": "user", "content": "word " * 300}, {"role": "assistant", "content": "Too late."}]
    ended = world.run(world.work([world.dataset("a", rows, tools=[{"type": "function", "function": {"name": "f"}}])]))
    assert ended.code == 0, ended.log
    result = ended.of("finished")[0]["result"]
    assert result["refused_rows"] == 2
    assert "dsv-a line 1" in result["refused"][0] and "tools" in result["refused"][0]
    assert "dsv-a line 3" in result["refused"][1] and "cut-off" in result["refused"][1]
    assert "dsv-a line 3" in ended.log


def test_a_job_without_a_usable_row_fails_by_its_input(world: World) -> None:
    rows: Any = [[{"role": "user", "content": "word " * 300}, {"role": "assistant", "content": "Too late."}]]
    ended = world.run(world.work([world.dataset("a", rows)]))
    assert ended.code == 1
    failed = ended.of("failed")[0]
    assert (failed["kind"], failed["reason"]) == ("USER", "NO_USABLE_ROWS")
    assert "line 1" in failed["message"]


def test_training_ends_early_when_validation_gets_no_better(world: World) -> None:
    settings: dict[str, Any] = {"learning_rate": 0.9, "early_stopping_patience": 2, "checkpoint_interval": 1}
    ended = world.run(world.work([world.dataset("a", conversations(20))], **settings, epochs=30, validation_ratio=0.3))
    result = ended.of("finished")[0]["result"]
    assert result["stopped_early"]
    losses = list(ended.values("validation_loss").values())
    assert min(losses[-2:]) >= result["best_validation_loss"] == min(losses)
    assert [one["step"] for one in ended.of("checkpoint") if one["best"]]


def test_a_checkpoint_of_other_data_is_not_gone_on_from(world: World) -> None:
    first = world.run(world.work([world.dataset("a", conversations(8))]))
    work = world.work([world.dataset("b", conversations(9))], resume=resume_from(first.of("checkpoint")[0]))
    ended = world.run(work)
    assert ended.code == 1
    assert ended.of("failed")[0]["reason"] == "CHECKPOINT_UNUSABLE"


def test_unknown_layers_are_the_callers_mistake(world: World) -> None:
    ended = world.run(world.work([world.dataset("a", conversations(8))], target_modules=["nothing_proj"]))
    failed = ended.of("failed")[0]
    assert (failed["kind"], failed["reason"]) == ("USER", "UNKNOWN_TARGET_MODULES")
