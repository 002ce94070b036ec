"""`python -m tests.chaos.clients.hostile`: all attacks at once for as long as is wanted, in a process of its own.

Reads one line of JSON (`seconds`, and the fields of `Target`), prints `begun`, and at the end how often each attack
ended how.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter, defaultdict

from services.chassis.launch.shim import lower_priority
from tests.chaos.clients.attacks import ATTACKS, Attack, Target, bomb

PAUSE_SECONDS = 0.2
LEAST_PRIORITY = 19
"""A hostile client is another machine: here it must not take the processor from whom it attacks."""


async def attack(target: Target, seconds: float) -> dict[str, dict[str, int]]:
    """Do all that is hostile until the time is over. Returns: attack -> outcome -> how often."""
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)

    async def repeat(name: str, act: Attack) -> None:
        while True:
            try:
                outcomes[name][await act(target)] += 1
            except (OSError, asyncio.IncompleteReadError):
                outcomes[name]["closed"] += 1
            except asyncio.CancelledError:
                outcomes[name]["open"] += 1
                raise
            await asyncio.sleep(PAUSE_SECONDS)  # what is closed at once is no reason to spin

    acts = [repeat(name, act) for name, (act, width) in ATTACKS.items() for _ in range(width)]
    attackers = [asyncio.create_task(act) for act in acts]
    print("begun", flush=True)
    done, _ = await asyncio.wait(attackers, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for attacker in attackers:
        attacker.cancel()
    await asyncio.gather(*attackers, return_exceptions=True)
    for broken in done:
        broken.result()
    return {name: dict(counts) for name, counts in outcomes.items()}


def main() -> None:
    """Read whom to attack, attack, tell."""
    os.setsid()
    lower_priority(os.getpid(), LEAST_PRIORITY)
    wanted = json.loads(sys.stdin.readline())
    seconds = wanted.pop("seconds")
    bomb()
    print(json.dumps(asyncio.run(attack(Target(**wanted), seconds))), flush=True)


if __name__ == "__main__":
    main()
