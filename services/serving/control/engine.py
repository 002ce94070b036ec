"""How an engine process is started: its arguments, its environment, its port."""

import importlib.util
import math
import secrets
import socket
import sys
from collections.abc import Collection
from functools import cache
from pathlib import Path

from services.chassis.engines import engine_environment
from services.chassis.launch import LaunchSpec
from services.serving.domain.entities import Deployment, Replica
from services.serving.domain.planning import largest_rank, memory_mb, memory_terms, sequences_of
from services.serving.operations.routes import limits_of
from services.serving.settings import ServingSettings

# Below those that the kernel lends to outgoing connections, so that none of them takes a port between two starts.
FIRST_PORT, LAST_PORT = 15_000, 32_000


def choose_port(taken: Collection[int]) -> int:
    """Return a free loopback port that no other replica has."""
    while True:
        port = FIRST_PORT + secrets.randbelow(LAST_PORT - FIRST_PORT)
        if port in taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


@cache
def can_drain() -> bool:
    """Return whether the installed engine finishes running requests at SIGTERM when it is told how long."""
    spec = importlib.util.find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        return False
    path = Path(next(iter(spec.submodule_search_locations))) / "engine" / "arg_utils.py"
    return path.is_file() and "--shutdown-timeout" in path.read_text("utf-8")


def launch_spec(
    deployment: Deployment, replica: Replica, model: Path, secret: str, settings: ServingSettings, gpus: int
) -> LaunchSpec:
    """Return what the launcher is told. `gpus`: GPUs of a replica, 0 on a machine without one."""
    argv = [sys.executable, "-m", "services.serving.worker.replica"]
    argv += arguments(deployment, replica, model, settings, gpus)
    kv_cache_gib = 0 if gpus else max(1, math.ceil(deployment.engine.kv_cache_gib))
    env = engine_environment(settings.home / "cache", kv_cache_gib)
    env |= {"VLLM_API_KEY": secret, "PYTHONUNBUFFERED": "1"}
    env["VLLM_MAX_N_SEQUENCES"] = str(limits_of(deployment.engine, settings).choices)
    if deployment.attaches:
        env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
    rank = largest_rank(deployment, settings.max_lora_rank)
    terms = memory_terms(deployment.facts, deployment.engine, deployment.attaches, rank, settings.max_loras)
    folder = settings.home / "work" / replica.id
    return LaunchSpec(
        replica.id,
        argv,
        env,
        folder,
        cpus=replica.cpu_count,
        memory_mb=memory_mb(terms),
        gpus=gpus,
        reads=(settings.home / "cache" / "models",),
        project=deployment.project,
        what=f"a replica of deployment {deployment.name}",
    )


def arguments(
    deployment: Deployment, replica: Replica, model: Path, settings: ServingSettings, gpus: int = 0
) -> list[str]:
    """Return the engine's own arguments."""
    engine = deployment.engine
    argv = ["--model", str(model), "--served-model-name", deployment.served_name]
    argv += ["--host", "127.0.0.1", "--port", str(replica.port), "--max-model-len", str(engine.max_model_length)]
    argv += ["--uvicorn-log-level", "warning", "--middleware", "services.serving.worker.doors.SecretRequired"]
    # It compiles with the backend of its first call, whichever one has found a call to be right: with one, both agree.
    argv += ["--structured-outputs-config", '{"backend": "xgrammar"}']
    if not engine.compile:
        argv += ["--enforce-eager"]
    argv += ["--max-logprobs", str(settings.max_logprobs)]
    if engine.max_sequences or not gpus:  # on a GPU it chooses more where there is room
        argv += ["--max-num-seqs", str(sequences_of(engine))]
    if can_drain():
        argv += ["--shutdown-timeout", str(max(1, int(settings.drain_seconds)))]
    if deployment.attaches:
        argv += ["--enable-lora", "--max-lora-rank", str(largest_rank(deployment, settings.max_lora_rank))]
        argv += ["--max-loras", str(settings.max_loras)]
        argv += ["--max-cpu-loras", str(max(settings.max_loras, settings.max_adapters))]
    return argv
