"""A siege: an ordinary client alone, then the same while hostile ones do everything at once."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from tests.chaos.clients.attacks import Target
from tests.chaos.clients.ordinary import Ordinary, Times, Watch
from tests.stack import Stack

SMALL = ("models", "deployment", "chat")
FIRST_SECONDS = 2.0
"""How long the ordinary client works before it is measured: the first calls of each kind open connections."""
REST_SECONDS, PAUSE_SECONDS = 180.0, 0.5
HOSTILE = {"without a key": "127.0.0.66", "with the least keys": "127.0.0.77"}
"""Who attacks, and from where: other addresses than the ordinary client's, as in life."""


@dataclass(frozen=True)
class Report:
    """What the ordinary client met, alone and besieged, and what the hostile ones did."""

    alone: Times
    besieged: Times
    outcomes: Mapping[str, Mapping[str, Mapping[str, int]]]
    broken: list[str]

    @property
    def health_p99_seconds(self) -> float:
        """Of `/healthz` under siege."""
        return self.besieged.p99("health")

    @property
    def ratio(self) -> float:
        """What a round of small calls took under siege, in units of what it takes alone."""
        return sum(map(self.besieged.mean, SMALL)) / sum(map(self.alone.mean, SMALL))

    def figures(self) -> dict[str, Any]:
        """What to print."""
        times = {
            kind: {
                "alone, ms": round(1000 * self.alone.mean(kind), 1),
                "besieged, ms": round(1000 * self.besieged.mean(kind), 1),
                "besieged p99, ms": round(1000 * self.besieged.p99(kind), 1),
                "calls": len(self.besieged.seconds[kind]),
            }
            for kind in Ordinary.KINDS
        }
        bounds = {"/healthz p99, ms": round(1000 * self.health_p99_seconds, 1), "ratio": round(self.ratio, 2)}
        return {**bounds, "calls": times, "hostile": self.outcomes}


async def besiege(stack: Stack, deployment: Any, seconds: float, alone_seconds: float) -> Report:
    """Measure alone, then under siege. `deployment`: one that is ready, in the project `default`."""
    keys = {role: _make_key(stack, role) for role in ("DEVELOPER", "VIEWER", "INFERENCE")}
    ordinary = Ordinary(stack.http, keys["DEVELOPER"], deployment.name, deployment.id)
    broken: list[str] = []
    async with Watch(stack.http, keys["DEVELOPER"]) as watch, ordinary:
        await ordinary.work(asyncio.sleep(FIRST_SECONDS))
        alone = await ordinary.work(asyncio.sleep(alone_seconds))
        attackers = asyncio.gather(*(_attack(target, seconds) for target in _targets(stack, deployment.name, keys)))
        besieged = await ordinary.work(attackers)
        made = await asyncio.to_thread(
            stack.client.create_dataset, dataset={"name": f"besieged-{uuid.uuid4().hex[:8]}"}
        )
        await _until_rest(stack)
        if not await watch.hears(made.id):
            broken.append("the ordinary client's watch has stopped")
    outcomes = dict(zip(HOSTILE, attackers.result(), strict=True))
    broken += [f"ordinary, alone: {wrong}" for wrong in alone.wrong]
    broken += [f"ordinary, besieged: {wrong}" for wrong in besieged.wrong]
    broken += [
        f"{attack} {who} was answered {status} ({times} times)"
        for who, attacks in outcomes.items()
        for attack, counts in attacks.items()
        for status, times in counts.items()
        if status in ("500", "502", "504")
    ]
    return Report(alone, besieged, outcomes, broken)


async def _until_rest(stack: Stack) -> None:
    """Wait for the calls that hostile clients have left: each goes on to its end. Raises: TimeoutError."""
    async with asyncio.timeout(REST_SECONDS), aiohttp.ClientSession() as session:
        in_flight = True
        while in_flight:
            async with session.get(f"{stack.http}/metrics") as answer:
                in_flight = b"modelry_inference_in_flight 0.0" not in await answer.read()
            await asyncio.sleep(PAUSE_SECONDS)


def _make_key(stack: Stack, role: str) -> str:
    name = f"siege-{role.lower()}-{uuid.uuid4().hex[:8]}"
    return str(stack.client.create_api_key(api_key={"name": name, "role": role}).secret)


def _targets(stack: Stack, model: str, keys: Mapping[str, str]) -> list[Target]:
    door = urlsplit(stack.http)
    host, port = door.hostname or "127.0.0.1", door.port or 80
    nobody, somebody = HOSTILE.values()
    return [
        Target(host, port, nobody, model),
        Target(host, port, somebody, model, inference=keys["INFERENCE"], viewer=keys["VIEWER"]),
    ]


async def _attack(target: Target, seconds: float) -> dict[str, dict[str, int]]:
    """Run a hostile process to its end. Returns: attack -> outcome -> how often."""
    program = (sys.executable, "-m", "tests.chaos.clients.hostile")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*program, stdin=pipe, stdout=pipe)
    try:
        said, _ = await process.communicate(json.dumps({"seconds": seconds, **asdict(target)}).encode() + b"\n")
        begun, _, outcomes = said.partition(b"\n")
        assert begun == b"begun" and process.returncode == 0, said
        counted: dict[str, dict[str, int]] = json.loads(outcomes)
        return counted
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
