"""Kills processes of an installation with -9, or holds them up for a while, chosen by a seeded generator."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress

from services.chassis.launch import LocalLauncher, ProbeState
from tests.stack import Stack

LONGEST_PAUSE_SECONDS = 6.0
HELD_UP = 0.25
"""The share that is stopped and goes on later, as on a machine that swaps: for longer than a lease, or shorter."""
LONGEST_HOLD_SECONDS = 10.0
# Target -> how often it is chosen.
TARGETS = {
    "dataset": 2,
    "training": 4,
    "registry": 2,
    "evaluation": 1,
    "serving": 3,
    "access": 3,
    "gateway": 3,
    "nats": 3,
    "objects": 3,
    "program": 6,
    "supervisor": 1,
    "several": 2,
}


class Killer:
    """Kills or holds up one thing after the other; `counts` says how often each was hit."""

    def __init__(self, stack: Stack, chance: random.Random) -> None:
        self._stack, self._chance = stack, chance
        self.counts: Counter[str] = Counter()

    def run(self, hits: int) -> None:
        """Hit so often."""
        while self.counts.total() < hits:
            time.sleep(self._chance.uniform(0.5, LONGEST_PAUSE_SECONDS))
            (target,) = self._chance.choices(list(TARGETS), list(TARGETS.values()))
            at_once = self._chance.sample(sorted(TARGETS.keys() - {"several"}), 3) if target == "several" else [target]
            for each in at_once:
                self._kill(each)

    def _kill(self, target: str) -> None:
        if target == "program":
            self._kill_program()
        elif target == "supervisor":
            self._hit(target, int(self._stack.state["supervisor"]["pid"]))
            self._stack.up()
        else:
            identity = self._stack.state["processes"][target]["identity"]
            if identity:
                self._hit(target, int(identity["pid"]))

    def _kill_program(self) -> None:
        """A worker, a replica or another program that a service started: itself, not its shim."""
        probes = asyncio.run(LocalLauncher(self._stack.home).list())
        running = sorted((probe.id, probe.pid) for probe in probes if probe.state is ProbeState.RUNNING and probe.pid)
        if running:
            name, pid = self._chance.choice(running)
            self._hit(f"program {name.split('-')[0].split('_')[0]}", pid)

    def _hit(self, target: str, pid: int) -> None:
        held_seconds = self._chance.uniform(0.5, LONGEST_HOLD_SECONDS) if self._chance.random() < HELD_UP else 0.0
        with suppress(ProcessLookupError):
            if held_seconds:
                os.kill(pid, signal.SIGSTOP)
                time.sleep(held_seconds)
                os.kill(pid, signal.SIGCONT)
            else:
                os.kill(pid, signal.SIGKILL)
            done = f"held up for {held_seconds:.1f} s" if held_seconds else "killed"
            self.counts[f"{target} {done.partition(' for')[0]}"] += 1
            print(f"{time.strftime('%H:%M:%S')} {target} {done}", flush=True)
