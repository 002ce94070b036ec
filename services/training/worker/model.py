"""The frozen base with its adapter: loading, the forward pass, and what is saved of it."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from services.training.work_spec import Recipe
from services.training.worker import attention, fused
from services.training.worker.batching import Batch
from services.training.worker.losses import add_noise

DTYPES = {"BF16": torch.bfloat16, "FP16": torch.float16, "FP32": torch.float32}
ADAPTER_NAME = "default"


@dataclass(frozen=True)
class Tuned:
    """A base whose weights are frozen in the computing type, with an adapter whose weights are fp32."""

    network: Any
    dtype: torch.dtype
    device: torch.device

    @property
    def masters(self) -> dict[str, torch.nn.Parameter]:
        """The trained weights by name, in a fixed order."""
        return {name: weight for name, weight in self.network.named_parameters() if weight.requires_grad}

    @property
    def parameter_count(self) -> int:
        """Weights of the base."""
        return sum(weight.numel() for weight in self.network.parameters() if not weight.requires_grad)

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Compute in the base's type: the adapter's fp32 weights are cast on the way, and gradients come back fp32."""
        if self.dtype is torch.float32:
            yield
            return
        with torch.autocast(self.device.type, dtype=self.dtype):
            yield

    def logits(self, batch: Batch, noise: float = 0.0) -> Tensor:
        """Return the logits of the labelled places alone, shape (labels, vocabulary)."""
        inputs: dict[str, Any] = {"input_ids": batch.ids}
        if noise:
            embeddings = self.network.get_input_embeddings()(batch.ids)
            inputs = {"inputs_embeds": add_noise(embeddings, batch.bounds, noise)}
        with self.computing():
            output = self.network(
                **inputs,
                position_ids=batch.positions,
                bounds=batch.bounds,
                logits_to_keep=batch.keep,
                use_cache=False,
            )
        return output.logits[0]


def load(folder: Path, how: Recipe, implementation: str, device: torch.device) -> Tuned:
    """Load a base and give it a fresh adapter; the weights of the adapter are drawn from the seed.

    Raises: ValueError: a wanted layer is not in the model.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    attention.register()
    dtype = DTYPES[how.compute_type]
    base = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation=implementation, local_files_only=True, trust_remote_code=False
    )
    torch.manual_seed(how.seed)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=how.lora_rank,
        lora_alpha=how.lora_alpha,
        lora_dropout=how.lora_dropout,
        target_modules=list(how.target_modules) or "all-linear",
    )
    network = get_peft_model(base, config, autocast_adapter_dtype=True).to(device)
    fused.install(network, ADAPTER_NAME)
    for module in network.modules():
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = dtype is torch.float32  # autocast casts the small weights instead
    return Tuned(network, dtype, device)


def save_adapter(tuned: Tuned, folder: Path, base_name: str) -> None:
    """Write the adapter as peft and vLLM read it. Its config names the base by ``base_name``, never by a path."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = get_peft_model_state_dict(tuned.network, adapter_name=ADAPTER_NAME, save_embedding_layers=False)
    plain = {name: weight.detach().to("cpu", copy=True).contiguous() for name, weight in weights.items()}
    save_file(plain, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = tuned.network.peft_config[ADAPTER_NAME].to_dict()
    config.update(base_model_name_or_path=base_name, inference_mode=True)
    modules = config.get("target_modules")
    config["target_modules"] = sorted(modules) if isinstance(modules, set | list) else modules
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True, default=str) + "\n")
