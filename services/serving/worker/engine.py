"""`python -m services.serving.worker.engine ARGUMENTS…`: vLLM's server, started as fast as it can be on a CPU.

vLLM runs as several processes, and each imports this module again before its own work: so nothing heavy is imported
here. To learn what a model's class can do, vLLM starts one more process, which takes as long as the engine itself; the
class is therefore registered as one that is loaded already.
"""

import json
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

SERVER = "vllm.entrypoints.openai.api_server"


def architectures_of(arguments: Sequence[str]) -> list[str]:
    """Return the classes that the model's config.json names; none when it cannot be read: vLLM says then why."""
    try:
        folder = Path(arguments[arguments.index("--model") + 1])
        names = json.loads((folder / "config.json").read_text("utf-8")).get("architectures")
    except (ValueError, IndexError, OSError, AttributeError):
        return []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def register(architectures: Sequence[str]) -> None:
    """Load the classes here. Not where there is a GPU: the process that serves HTTP must not touch it."""
    from vllm import ModelRegistry
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    for name in architectures:
        known = ModelRegistry.models.get(name)
        if known is not None:
            ModelRegistry.register_model(name, known.load_model_cls())


if __name__ == "__main__":
    register(architectures_of(sys.argv))
    runpy.run_module(SERVER, run_name="__main__")
