"""Merge a LoRA adapter into its base, and measure that the merged model says what base and adapter said together.

Evaluation and serving both take the result of this one merge, under one name in the node's cache: what is evaluated is
what is served.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.chassis.errors import Invalid, ModelryError
from services.chassis.worker.chat import describe_chat, load_tokenizer

if TYPE_CHECKING:
    import torch  # and inside functions: importing this package loads no torch

LARGEST_DIFFERENCE = {"bfloat16": 0.05, "float16": 0.05, "float32": 0.001}
"""Mean absolute difference of log-probabilities that rounding to this type may make."""

DESCRIPTION = "modelry.json"
_WEIGHTS = (".safetensors", ".safetensors.index.json", ".bin", ".gguf")


@dataclass(frozen=True)
class Merge:
    """What came of a merge.

    Attributes:
        existed: the merged model was there already, and was measured when it was made.
        mean_difference: of the log-probabilities, merged and not.
        dtype: the type of its weights.
    """

    existed: bool
    mean_difference: float = 0.0
    dtype: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as a program's result has it."""
        measured = {} if self.existed else {"mean_difference": self.mean_difference, "dtype": self.dtype}
        return {"existed": self.existed, **measured}


def merge(base: Path, adapter: Path, output: Path) -> Merge:
    """Write the merged model to `output`, by rename; one that is there is whole and stays.

    Raises: ModelryError: merged and unmerged differ. Invalid: the adapter is none of this base.
    """
    if output.is_dir():
        return Merge(existed=True)
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    samples = _samples(base)
    dtype = _dtype_of(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, local_files_only=True)
    try:
        tuned = PeftModel.from_pretrained(model, adapter)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise Invalid(f"The adapter cannot be loaded on its base: {error}.", reason="INVALID_ADAPTER") from error
    tuned.eval()
    expected = [log_probabilities(tuned, ids) for ids in samples]
    # Merged in fp32 and rounded once: merging in bf16 would round the small update away.
    merged = tuned.merge_and_unload(safe_merge=True).to(getattr(torch, dtype))
    # Both sides are computed in fp32, so that the difference is that of the weights and not of bf16 arithmetic.
    difference = mean_difference(expected, [log_probabilities(merged.float(), ids) for ids in samples])
    merged = merged.to(getattr(torch, dtype))
    if difference > LARGEST_DIFFERENCE[dtype]:
        message = (
            f"The merged model's log-probabilities differ by {difference:.4f} on average from those of base and "
            f"adapter; at most {LARGEST_DIFFERENCE[dtype]} is rounding. Serve it with adapter_mode ATTACHED."
        )
        raise ModelryError(message, reason="MERGE_DIFFERS")
    _save(merged, base, output)
    return Merge(False, difference, dtype)


def log_probabilities(model: Any, token_ids: list[int]) -> torch.Tensor:
    """Return the log-probability of each token of a row after the first, given those before it; shape (tokens - 1,)."""
    import torch

    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([token_ids])).logits[0].float()
    scores = torch.log_softmax(logits[:-1], dim=-1)
    return scores.gather(1, torch.tensor(token_ids[1:]).unsqueeze(1)).squeeze(1)


def mean_difference(expected: list[torch.Tensor], actual: list[torch.Tensor]) -> float:
    """Return the mean absolute difference over all tokens; infinite where one is no number."""
    import torch

    difference = torch.cat([(one - other).abs() for one, other in zip(expected, actual, strict=True)]).mean()
    return float(difference) if bool(torch.isfinite(difference)) else float("inf")


def _samples(base: Path) -> list[list[int]]:
    """Return the token ids of the canonical conversations: from beside the weights, else rendered now."""
    path = base / DESCRIPTION
    described = json.loads(path.read_text("utf-8")) if path.is_file() else describe_chat(load_tokenizer(base))
    return [list(sample["token_ids"]) for sample in described["samples"] if len(sample["token_ids"]) > 1]


def _dtype_of(base: Path) -> str:
    """Return the type that the base's weights are stored in, as torch names it."""
    from transformers import AutoConfig

    named = str(AutoConfig.from_pretrained(base, local_files_only=True).dtype).removeprefix("torch.")
    return named if named in LARGEST_DIFFERENCE else "float32"


def _save(merged: Any, base: Path, output: Path) -> None:
    """Save the weights, and everything else beside the base's: tokenizer, template, description, generation."""
    from transformers import GenerationConfig

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
