"""Choice scoring on a tiny model: the same as a plain forward pass of each whole prompt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from services.chassis.worker import chat, merging
from services.evaluation.benchmarks import layouts, presets
from services.evaluation.worker import choices
from services.evaluation.worker.models import SharedBase, adapter_rank
from tests.integration.evaluation.world import write_benchmark

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A tiny model gains nothing from more, and loses much beside other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    write_benchmark(folder)
    return folder


def encoded(folder: Path, model: Path, preset: presets.Preset, room: int = 1024) -> list[choices.ChoicePrompt]:
    read, tokenizer = layouts.read_benchmark(folder, preset), chat.load_tokenizer(model)
    return [
        choices.encode_question(tokenizer, preset, subject, read.examples.get(subject, ()), row, room)
        for subject, rows in read.questions.items()
        for row in rows
    ]


def naive(model: Any, prompt: choices.ChoicePrompt, labels: list[int]) -> list[float]:
    with torch.inference_mode():
        logits = model(torch.tensor([list(prompt.token_ids)])).logits[0, -1]
    return [float(value) for value in logits.float().log_softmax(-1)[labels]]


@pytest.mark.parametrize(
    "chosen",
    [
        {"shots": 0},
        {"shots": 2},
        {"shots": 2, "style": "chat"},
        {"shots": 2, "style": "chat", "few_shot": "turns"},
    ],
)
def test_shared_prefix_and_batches_equal_a_plain_forward_in_fp32(
    benchmark: Path, tiny_models: tuple[Path, Path, Path], chosen: dict[str, Any]
) -> None:
    preset = presets.preset("mmlu", **chosen)
    prompts = encoded(benchmark, tiny_models[0], preset)
    labels = choices.label_ids(chat.load_tokenizer(tiny_models[0]), preset)
    base = SharedBase(tiny_models[0], {"tuned": tiny_models[2]}, torch.float32)
    for adapter in (None, "tuned", None):
        with base.use(adapter) as model:
            scored = dict(choices.score_choices(model, prompts, labels, lambda: False))
            assert sorted(scored) == list(range(len(prompts)))
            for number, values in scored.items():
                assert values == pytest.approx(naive(model, prompts[number], labels), abs=1e-3)


def test_the_adapter_changes_the_answer_and_the_bare_base_does_not_know_it(
    benchmark: Path, tiny_models: tuple[Path, Path, Path]
) -> None:
    preset = presets.preset("mmlu", shots=1)
    prompts = encoded(benchmark, tiny_models[0], preset)[:6]
    labels = choices.label_ids(chat.load_tokenizer(tiny_models[0]), preset)

    def scores(base: SharedBase, adapter: str | None) -> dict[int, tuple[float, ...]]:
        with base.use(adapter) as model:
            return dict(choices.score_choices(model, prompts, labels, lambda: False))

    both = SharedBase(tiny_models[0], {"tuned": tiny_models[2]}, torch.float32)
    alone = SharedBase(tiny_models[0], {}, torch.float32)
    assert scores(both, None) == scores(alone, None)
    assert scores(both, "tuned") != scores(both, None)


def test_too_long_prompts_lose_examples_then_their_beginning(
    benchmark: Path, tiny_models: tuple[Path, Path, Path]
) -> None:
    preset = presets.preset("mmlu", shots=2)
    whole = encoded(benchmark, tiny_models[0], preset)[0]
    fewer = encoded(benchmark, tiny_models[0], preset, len(whole.token_ids) - 1)[0]
    assert (whole.shots, fewer.shots) == (2, 1)
    cut = encoded(benchmark, tiny_models[0], preset, 10)[0]
    assert (cut.shots, cut.cut, len(cut.token_ids)) == (0, True, 10)
    assert cut.token_ids == whole.token_ids[-10:]


def test_a_label_of_several_tokens_is_refused(tiny_models: tuple[Path, Path, Path]) -> None:
    from dataclasses import replace

    preset = replace(presets.preset("mmlu"), labels=("A", "Zebra", "C", "D"))
    with pytest.raises(choices.LabelError, match="'Zebra' is not one token"):
        choices.label_ids(chat.load_tokenizer(tiny_models[0]), preset)


def test_a_stop_ends_between_batches(benchmark: Path, tiny_models: tuple[Path, Path, Path]) -> None:
    preset = presets.preset("mmlu", shots=0)
    prompts = encoded(benchmark, tiny_models[0], preset)
    labels = choices.label_ids(chat.load_tokenizer(tiny_models[0]), preset)
    with SharedBase(tiny_models[0], {}).use(None) as model:
        assert not list(choices.score_choices(model, prompts, labels, lambda: True))


def test_an_adapter_that_cannot_be_attached_is_merged(tiny_models: tuple[Path, Path, Path], tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    assert adapter_rank(tiny_models[2]) == 8
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_models[0])
    config = LoraConfig(r=4, use_dora=True, target_modules="all-linear", init_lora_weights=False)
    get_peft_model(model, config).save_pretrained(tmp_path / "dora")
    assert adapter_rank(tmp_path / "dora") is None
    merged = tmp_path / "merged"
    merging.merge(tiny_models[0], tmp_path / "dora", merged)
    chat.load_tokenizer(merged)
    ids = torch.tensor([[5, 6, 7, 8]])
    plain: Any = AutoModelForCausalLM.from_pretrained(tiny_models[0], dtype=torch.float32)
    adapted: Any = PeftModel.from_pretrained(plain, tmp_path / "dora")
    whole: Any = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)
    with torch.inference_mode():
        assert torch.allclose(adapted(ids).logits, whole(ids).logits, atol=0.05)
