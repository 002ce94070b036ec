"""One-shot programs of serving: merge an adapter into its base, describe how a model's chats become tokens."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.chassis.errors import Unavailable
from services.chassis.launch import LaunchSpec, LocalLauncher, ProbeState

POLL_SECONDS = 0.3


class Programs:
    """Runs them on slots of the launcher. A program that a dead service began is found again by its id."""

    def __init__(self, launcher: LocalLauncher, home: Path, seconds: float) -> None:
        self._launcher, self._home, self._seconds = launcher, home, seconds

    async def run(self, launch_id: str, output: Path, work: Mapping[str, Any]) -> Path:
        """Run until `output` is there; it is there already after the first success.

        Raises: Unavailable: no slot is free, or the program failed; its last words are in the message.
        """
        if output.exists():
            return output
        folder = self._home / "work" / launch_id
        probe = await self._launcher.probe(launch_id)
        if probe.state is not ProbeState.RUNNING:
            await self._launcher.kill(launch_id)
            await self._launcher.forget(launch_id)
            await asyncio.to_thread(_write_spec, folder, work)
            argv = [sys.executable, "-m", "services.serving.worker", str(folder)]
            await self._launcher.start(LaunchSpec(launch_id, argv, {}, folder, cpus=1))
        await self._wait(launch_id)
        if not output.exists():
            chunk = await self._launcher.logs(launch_id, -2000)
            words = chunk.text.strip().splitlines()[-1:] or ["it said nothing"]
            raise Unavailable(f"{launch_id} failed: {words[0][:500]}", reason="PROGRAM_FAILED")
        await self._launcher.kill(launch_id)
        await self._launcher.forget(launch_id)
        return output

    async def _wait(self, launch_id: str) -> None:
        deadline = time.monotonic() + self._seconds
        while (await self._launcher.probe(launch_id)).state is ProbeState.RUNNING:
            if time.monotonic() > deadline:
                await self._launcher.kill(launch_id)
                raise Unavailable(f"{launch_id} ran longer than {self._seconds:g} s.", reason="PROGRAM_TOO_LONG")
            await asyncio.sleep(POLL_SECONDS)


def _write_spec(folder: Path, work: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / "spec.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"format": 1, "stage": "serving", "work": dict(work)}), "utf-8")
