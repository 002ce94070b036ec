"""Generates answers with vLLM in this process, greedy by default, with the model's own penalties switched off."""

import gc
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from services.chassis.engines import engine_environment
from services.evaluation.work_spec import Sampling
from services.evaluation.worker.models import device

BATCH = 64
"""Prompts between two looks at a wish to stop; what is done is in the cache."""
LARGEST_BATCHED_SEQUENCES = 64


def prepare_environment(cache: Path, cpus: str, kv_space_gb: int) -> None:
    """Set what vLLM reads from the environment when it is imported. In one process: two imports of torch less."""
    on_cpu = device() == "cpu"
    settings = engine_environment(cache, kv_space_gb if on_cpu else 0) | {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CONFIG_ROOT": str(cache / "vllm" / "config"),
        "VLLM_LOGGING_LEVEL": "WARNING",
        "HF_HOME": str(cache / "hub"),
        "TOKENIZERS_PARALLELISM": "false",
    }
    if on_cpu and cpus:
        settings["VLLM_CPU_OMP_THREADS_BIND"] = cpus
    os.environ.update(settings)


def engine_version() -> str:
    """Return the engine's version, which is part of what decides an answer."""
    import vllm

    return f"vllm-{vllm.__version__}"


class Engine:
    """A running engine of one base and its adapters. Close it before the next one starts."""

    def __init__(self, folder: Path, adapters: Mapping[str, Path], largest_rank: int, context: int) -> None:
        """Start; `adapters`: digest to folder, `largest_rank`: one of `RANKS`, `context`: of prompt and answer."""
        from vllm import LLM

        lora: dict[str, Any] = {}
        if adapters:
            lora = {"enable_lora": True, "max_loras": min(4, len(adapters)), "max_lora_rank": largest_rank}
        self._llm: Any = LLM(
            model=str(folder),
            dtype="bfloat16",
            max_model_len=context,
            max_num_seqs=LARGEST_BATCHED_SEQUENCES,
            generation_config="vllm",
            enforce_eager=device() == "cpu",
            seed=0,
            disable_log_stats=True,
            **lora,
        )
        self._adapters = {name: (number, path) for number, (name, path) in enumerate(adapters.items(), 1)}

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, adapter: str | None, stopped: Callable[[], bool]
    ) -> Iterator[list[str]]:
        """Yield the texts of the next BATCH prompts, in order; ends early when `stopped` says so.

        Prompts are token ids, each shorter than the context; `adapter` is a digest, or None for the base.
        """
        from vllm import SamplingParams
        from vllm.lora.request import LoRARequest

        request = None
        if adapter is not None:
            number, path = self._adapters[adapter]
            request = LoRARequest(adapter, number, str(path))
        seed = sampling.seed if sampling.temperature else None
        chosen = asdict(sampling) | {"stop": list(sampling.stop), "seed": seed}
        parameters = SamplingParams(**chosen, top_k=0, min_p=0.0, presence_penalty=0.0, frequency_penalty=0.0)
        for start in range(0, len(prompts), BATCH):
            if stopped():
                return
            asked = [{"prompt_token_ids": list(ids)} for ids in prompts[start : start + BATCH]]
            outputs = self._llm.generate(asked, parameters, lora_request=request, use_tqdm=False)
            yield [output.outputs[0].text for output in outputs]

    def close(self) -> None:
        """End the engine and give its memory back, so that another may start in this process."""
        from vllm.distributed import cleanup_dist_env_and_memory

        self._llm.llm_engine.engine_core.shutdown()
        self._llm = None
        gc.collect()
        cleanup_dist_env_and_memory()
