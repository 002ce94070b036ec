"""`python -m tests.chaos.clients --seconds 60`: an installation under siege by hostile clients.

Prints what an ordinary client's calls took alone and under siege. Ends with 1 when one was not answered, a stream of
its stopped, `/healthz` took more than 100 ms at its 99th percentile, or a round of small calls more than three times
what it takes alone. `make chaos` runs it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from tests.chaos.clients.siege import Report, besiege
from tests.stack import Stack, Walk

MOST_HEALTH_SECONDS = 0.1
MOST_RATIO = 3.0
ALONE_SECONDS = 15.0
SLOW = ("slow heads", "slow bodies", "stalled readers", "stalled streams")
"""What the door ends after less than a minute."""


def main() -> int:
    """Run it; 0 when the ordinary client was served well."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.clients", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long hostile clients attack; at least 50")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelry-siege-") as folder:
        home, tiny = Path(folder) / "home", Path(folder) / "tiny"
        home.mkdir()
        tiny.mkdir()
        stack = Stack(home)
        try:
            report = asyncio.run(run(stack, tiny, arguments.seconds))
        finally:
            stack.down()
    print(json.dumps(report.figures(), indent=2))
    broken = broken_bounds(report)
    for promise in broken:
        print(f"BROKEN: {promise}", file=sys.stderr)
    return 1 if broken else 0


async def run(stack: Stack, folder: Path, seconds: float) -> Report:
    """Start, deploy a tiny model, and besiege."""
    await asyncio.to_thread(stack.up)
    walk = Walk(stack, folder)
    await asyncio.to_thread(walk.model)
    deployment = await asyncio.to_thread(deploy, stack)
    return await besiege(stack, deployment, seconds, ALONE_SECONDS)


def deploy(stack: Stack) -> object:
    """Return a deployment of the tiny model that is ready."""
    wanted = {"name": "tiny-live", "model": "tiny", "replicas": 1, "engine": {"max_model_length": 256}}
    made = stack.client.create_deployment(deployment=wanted)
    return next(seen for seen in stack.client.watch_deployment(deployment=made.id) if seen.ready_replicas)


def unbounded(report: Report) -> list[str]:
    """Clients whom nobody has stopped: slow ones whom the door waited for, and watches without a number."""
    with_keys = report.outcomes["with the least keys"]
    ended = {attack: set(counts) - {"left", "open"} for attack, counts in with_keys.items()}
    broken = [f"{attack} were ended by nobody" for attack in SLOW if not ended[attack]]
    return broken + (["watches had no bound"] if "429" not in ended["watches"] else [])


def broken_bounds(report: Report) -> list[str]:
    """What was not kept."""
    broken = [*report.broken, *unbounded(report)]
    if report.health_p99_seconds > MOST_HEALTH_SECONDS:
        broken.append(f"/healthz took {1000 * report.health_p99_seconds:.0f} ms at its 99th percentile")
    if report.ratio > MOST_RATIO:
        broken.append(f"a round of small calls took {report.ratio:.1f} times what it takes alone")
    return broken


if __name__ == "__main__":
    raise SystemExit(main())
