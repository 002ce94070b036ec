"""A replica's start, the gateway beside a busy engine, and the attachment of an adapter, with a tiny model."""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from openai import OpenAI

from tests.bench.processes import cpu_seconds, find_process
from tests.stack import Stack, Walk

CALLS, PARALLEL = 600, 8


def run() -> dict[str, float]:
    """Import a model, deploy it, call it, and call it once more through an adapter that was just published."""
    with tempfile.TemporaryDirectory(prefix="modelry-bench-") as folder:
        stack = Stack(Path(folder))
        (stack.home / "modelry.toml").write_text("launch_cpu_overcommit = 2.0\n", "utf-8")
        try:
            stack.up()
            return _measure(stack, Walk(stack, Path(folder) / "tiny"))
        finally:
            stack.down()


def _measure(stack: Stack, walk: Walk) -> dict[str, float]:
    walk.model()
    walk.data()
    began = time.monotonic()
    deployment = {"name": "base", "model": "tiny", "engine": {"max_model_length": 256}}
    created = stack.client.create_deployment(deployment=deployment)
    next(seen for seen in stack.client.watch_deployment(deployment=created.id) if seen.ready_replicas)
    found = {"replica of a tiny model ready, seconds": time.monotonic() - began}
    with OpenAI(base_url=f"{stack.http}/v1", api_key=stack.admin_key) as client:
        found |= _measure_gateway(stack, client)
        walk.tune()
        began = time.monotonic()
        walk.publish()
        _call(client, walk.resources["tuned"].fine_tuned_name)
    return {**found, "publish to first answer of an adapter, seconds": time.monotonic() - began}


def _measure_gateway(stack: Stack, client: OpenAI) -> dict[str, float]:
    gateway = find_process(stack, "gateway")
    _call(client, "base")
    before, began = cpu_seconds(gateway), time.monotonic()
    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(lambda _: _call(client, "base"), range(CALLS)))
    return {
        "requests/s at one engine": CALLS / (time.monotonic() - began),
        "gateway CPU per request beside a busy engine, µs": (cpu_seconds(gateway) - before) / CALLS * 1e6,
    }


def _call(client: OpenAI, model: str) -> None:
    messages: Any = [{"role": "user", "content": "Say number 3"}]
    client.chat.completions.create(model=model, messages=messages, max_tokens=1)
