"""Loads a base once for all of its adapters, for scoring in process."""

import gc
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from services.chassis.engines import attachable_rank

COMPUTE_TYPE = torch.bfloat16


def device() -> str:
    """Return where models run: the GPU when there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


class SharedBase:
    """A base with its adapters; `use` switches between them without loading anything again."""

    def __init__(self, folder: Path, adapters: Mapping[str, Path], dtype: torch.dtype = COMPUTE_TYPE) -> None:
        """Load a base and its adapters, which are given as digest to folder."""
        self._model: Any = AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=dtype, local_files_only=True, trust_remote_code=False
        )
        self._model.to(device()).eval()
        self._adapted = False
        for name, path in adapters.items():
            self._add(name, path)

    def _add(self, name: str, path: Path) -> None:
        from peft import PeftModel

        if self._adapted:
            self._model.load_adapter(str(path), adapter_name=name)
        else:
            self._model = PeftModel.from_pretrained(self._model, str(path), adapter_name=name)
            self._adapted = True
        self._model.eval()

    @contextmanager
    def use(self, adapter: str | None) -> Iterator[Any]:
        """Return the model with one adapter, or as the bare base."""
        if adapter is not None:
            self._model.set_adapter(adapter)
        bare = self._model.disable_adapter() if self._adapted and adapter is None else nullcontext()
        with bare:
            yield self._model

    def close(self) -> None:
        """Give the memory back."""
        self._model = None
        gc.collect()


def context_length(folder: Path) -> int:
    """Return the most tokens that a model can hold, as its config says; 2,048 when it does not."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config = config.get("text_config") or config
    return int(config.get("max_position_embeddings") or 2048)


def adapter_rank(folder: Path) -> int | None:
    """Return the largest-rank setting of vLLM that holds this adapter; None when vLLM cannot attach it at all."""
    return attachable_rank(json.loads((folder / "adapter_config.json").read_text("utf-8")))
