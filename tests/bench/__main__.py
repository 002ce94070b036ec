"""Prints start-up, memory, gateway, attach and training figures; nothing here can fail a test."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
from openai import OpenAI
from rich.console import Console
from rich.table import Table

from tests.bench import gateway, training
from tests.stack import Stack, Walk

console = Console(width=120)
CALLS, PARALLEL = 600, 8
Figure = tuple[str, str, str]


def main() -> int:
    """Run what was chosen and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["stack", "gateway", "training"], help="one part")
    chosen = parser.parse_args()
    parts: dict[str, Callable[[], list[Figure]]] = {
        "stack": measure_stack,
        "gateway": measure_gateway,
        "training": measure_training,
    }
    figures = [figure for name, part in parts.items() if chosen.only in (None, name) for figure in part()]
    table = Table("figure", "measured", "wanted", title="Modelry on this machine")
    for figure in figures:
        table.add_row(*figure)
    console.print(table)
    return 0


def measure_training() -> list[Figure]:
    """Tokens a second of our loop, beside the plain transformers Trainer."""
    found = training.run()
    if not found:
        return [("training", "skipped: the reference data set is not there", "")]
    return [
        ("training, real tokens/s", f"{found['modelry']:.0f}", "450"),
        ("training, plain transformers Trainer", f"{found['trainer']:.0f}", "the reference"),
        ("training, Trainer with the same libraries", f"{found['trainer_preloaded']:.0f}", ""),
        ("training, ratio", f"{found['ratio']:.2f}", "2.0"),
    ]


def measure_gateway() -> list[Figure]:
    """What a request costs the gateway, beside the least that it could."""
    found = gateway.run()
    return [
        ("gateway CPU per request, µs", f"{found['gateway']:.0f}", "200"),
        ("bare aiohttp pass-through, µs", f"{found['reference']:.0f}", "the reference"),
    ]


def measure_stack() -> list[Figure]:
    """Start-up, memory, a replica, the gateway's CPU and the attachment of an adapter."""
    with tempfile.TemporaryDirectory(prefix="modelry-bench-") as folder:
        stack = Stack(Path(folder))
        (stack.home / "modelry.toml").write_text("launch_cpu_overcommit = 2.0\n", "utf-8")
        began = time.monotonic()
        stack.up()
        up_seconds = time.monotonic() - began
        try:
            idle = sum(process.memory_info().rss for process in _processes(stack)) / 1e6
            first = [
                ("idle stack ready, seconds", f"{up_seconds:.1f}", "10"),
                ("idle stack resident, MB", f"{idle:.0f}", "1200"),
            ]
            return first + _measure_serving(stack, Path(folder))
        finally:
            stack.down()


def _measure_serving(stack: Stack, folder: Path) -> list[Figure]:
    walk = Walk(stack, folder / "tiny")
    walk.model()
    walk.data()
    began = time.monotonic()
    made = stack.client.create_deployment(
        deployment={"name": "base", "model": "tiny", "engine": {"max_model_length": 256}}
    )
    next(seen for seen in stack.client.watch_deployment(deployment=made.id) if seen.ready_replicas)
    replica = time.monotonic() - began
    with OpenAI(base_url=f"{stack.http}/v1", api_key=stack.admin_key) as client:
        cpu, rate = _measure_gateway(stack, client)
        walk.tune()
        attach = _measure_attach(walk, client)
    return [
        ("replica ready (tiny model), seconds", f"{replica:.1f}", "25"),
        ("gateway CPU per request beside a busy engine, µs", f"{cpu * 1e6:.0f}", ""),
        ("requests/s at one engine", f"{rate:.0f}", ""),
        ("publish to first answer of an adapter, seconds", f"{attach:.2f}", "5"),
    ]


def _measure_gateway(stack: Stack, client: OpenAI) -> tuple[float, float]:
    """CPU seconds of the gateway for a request, and requests a second."""
    door = next(process for process in _processes(stack) if "gateway" in process.cmdline())
    _call(client, "base")
    before, began = door.cpu_times(), time.monotonic()
    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(lambda _: _call(client, "base"), range(CALLS)))
    seconds, after = time.monotonic() - began, door.cpu_times()
    return (after.user + after.system - before.user - before.system) / CALLS, CALLS / seconds


def _measure_attach(walk: Walk, client: OpenAI) -> float:
    began = time.monotonic()
    walk.publish()
    _call(client, walk.resources["tuned"].fine_tuned_name)
    return time.monotonic() - began


def _call(client: OpenAI, model: str) -> None:
    messages: Any = [{"role": "user", "content": "Say number 3"}]
    client.chat.completions.create(model=model, messages=messages, max_tokens=1)


def _processes(stack: Stack) -> list[psutil.Process]:
    """The processes of the control plane, the supervisor included."""
    supervisor = psutil.Process(int(stack.state["supervisor"]["pid"]))
    return [supervisor, *supervisor.children(recursive=True)]


if __name__ == "__main__":
    sys.exit(main())
