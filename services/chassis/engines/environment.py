"""What vLLM reads from its environment, whoever starts it."""

from collections.abc import Mapping
from pathlib import Path


def engine_environment(cache: Path, kv_cache_gib: int = 0) -> dict[str, str]:
    """Return the variables of every engine: it sends nothing home, fetches nothing, and compiles into the node's cache.

    `kv_cache_gib` is the memory of its keys and values on a CPU; 0 where a GPU decides that for itself.
    """
    memory = {"VLLM_CPU_KVCACHE_SPACE": str(kv_cache_gib)} if kv_cache_gib else {}
    return {
        "VLLM_CACHE_ROOT": str(cache / "vllm"),
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        **memory,
    }


def bound_to_cores(environ: Mapping[str, str], cpus: str = "") -> dict[str, str]:
    """Return the environment of an engine that is bound to the cores that its launcher gave (else to `cpus`)."""
    result = dict(environ)
    cores = environ.get("MODELRY_CPUS") or cpus
    if cores:
        result.setdefault("VLLM_CPU_OMP_THREADS_BIND", cores)
        result.pop("OMP_NUM_THREADS", None)  # the binding says how many threads there are
    return result
