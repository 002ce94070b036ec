"""Merges a LoRA adapter into its base, and measures that the merged model says what base and adapter said together."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from services.chassis.errors import Invalid, ModelryError

LARGEST_DIFFERENCE = {torch.bfloat16: 0.05, torch.float16: 0.05, torch.float32: 0.001}
"""Mean absolute difference of log-probabilities that rounding to this type may make."""

DESCRIPTION = "modelry.json"
_WEIGHTS = (".safetensors", ".safetensors.index.json", ".bin", ".gguf")


def merge(base: Path, adapter: Path, output: Path) -> dict[str, Any]:
    """Writes the merged model to `output`, by rename; one that is there is whole and stays.

    Returns: what was measured: `mean_difference`, `dtype`. Raises: ModelryError: merged and unmerged differ.
    """
    if output.is_dir():
        return {"existed": True}
    samples = _samples(base)
    dtype = _dtype_of(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, local_files_only=True)
    try:
        tuned = PeftModel.from_pretrained(model, adapter)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise Invalid(f"The adapter cannot be loaded on its base: {error}", reason="INVALID_ADAPTER") from error
    tuned.eval()
    expected = [log_probabilities(tuned, ids) for ids in samples]
    # Merged in fp32 and rounded once: merging in bf16 would round the small update away.
    merged = tuned.merge_and_unload(safe_merge=True).to(dtype)
    # Both sides are computed in fp32, so that the difference is that of the weights and not of bf16 arithmetic.
    difference = mean_difference(expected, [log_probabilities(merged.float(), ids) for ids in samples])
    merged = merged.to(dtype)
    if difference > LARGEST_DIFFERENCE[dtype]:
        message = (
            f"The merged model's log-probabilities differ by {difference:.4f} on average from those of base and "
            f"adapter; at most {LARGEST_DIFFERENCE[dtype]} is rounding. Serve it with adapter_mode ATTACHED."
        )
        raise ModelryError(message, reason="MERGE_DIFFERS")
    _save(merged, base, output)
    return {"existed": False, "mean_difference": difference, "dtype": str(dtype).removeprefix("torch.")}


def log_probabilities(model: Any, token_ids: list[int]) -> torch.Tensor:
    """Log-probability of each token of a row after the first, given those before it; shape (tokens - 1,)."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([token_ids])).logits[0].float()
    scores = torch.log_softmax(logits[:-1], dim=-1)
    return scores.gather(1, torch.tensor(token_ids[1:]).unsqueeze(1)).squeeze(1)


def mean_difference(expected: list[torch.Tensor], found: list[torch.Tensor]) -> float:
    """Mean absolute difference over all tokens; infinite where one is no number."""
    difference = torch.cat([(one - other).abs() for one, other in zip(expected, found, strict=True)]).mean()
    return float(difference) if bool(torch.isfinite(difference)) else float("inf")


def _samples(base: Path) -> list[list[int]]:
    described = json.loads((base / DESCRIPTION).read_text("utf-8"))
    return [list(sample["token_ids"]) for sample in described["samples"] if len(sample["token_ids"]) > 1]


def _dtype_of(base: Path) -> torch.dtype:
    """The type that the base's weights are stored in."""
    named = AutoConfig.from_pretrained(base, local_files_only=True).dtype
    dtype = getattr(torch, named) if isinstance(named, str) else named
    return dtype if dtype in LARGEST_DIFFERENCE else torch.float32


def _save(merged: Any, base: Path, output: Path) -> None:
    """The weights, and everything else that lies beside the base's: tokenizer, template, description, generation."""
    incoming = output.with_name(f".{output.name}.{os.getpid()}")
    shutil.rmtree(incoming, ignore_errors=True)
    # The base's own file is copied below as it is: the library refuses to write some that it reads.
    merged.generation_config = GenerationConfig()
    merged.save_pretrained(incoming, safe_serialization=True)
    (incoming / "generation_config.json").unlink(missing_ok=True)
    for path in base.iterdir():
        if path.is_file() and path.name != "config.json" and not path.name.endswith(_WEIGHTS):
            shutil.copyfile(path, incoming / path.name)
    try:
        incoming.rename(output)
    except OSError:
        if not output.is_dir():  # another merge of the same content was faster
            raise
        shutil.rmtree(incoming, ignore_errors=True)
