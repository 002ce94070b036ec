"""Run the one-shot programs of services: an import, the preparation of a model, a merge.

A program is `python -m MODULE FOLDER`. It reads FOLDER/spec.json, may tell how far it is in FOLDER/progress.json, and
writes FOLDER/result.json. Its environment holds no secret; what it must know to do its work stands in the spec, which
this user alone may read. It takes a place in the pool of one-shot programs, so that replicas and jobs that hold every
core do not keep it waiting. A program that a killed service has begun is found again by its id.
"""

import asyncio
import math
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from services.chassis.errors import ModelryError, Unavailable
from services.chassis.launch import shim
from services.chassis.launch.program_result import PROGRESS_FILE, ProgramResult, read_result, write_spec
from services.chassis.launch.spec import Launcher, LaunchSpec, Probe, ProbeState
from services.chassis.masking import mask

POLL_SECONDS = 0.2
_LAST_WORDS_BYTES = 4000

OnProgress = Callable[[Mapping[str, Any]], Awaitable[None]]


class ProgramRun:
    """One run of one program."""

    def __init__(self, launcher: Launcher, home: Path, id: str, *, project: str = "", what: str = "") -> None:
        """Args: id: names this run in its home: the same work under the same id is the same run; project, what: see
        `LaunchSpec`; one that works on what services share has no project.
        """
        self._launcher, self._project, self._what = launcher, project, what
        self.id = id
        self.folder = home / "work" / id

    async def exists(self) -> bool:
        """Return whether it runs, or has ended and said how."""
        if (await self._launcher.probe(self.id)).state is ProbeState.RUNNING:
            return True
        # Read after the look: one that ends between the two has said how by then.
        return await asyncio.to_thread(read_result, self.folder) is not None

    async def start(self, module: str, spec: Mapping[str, Any]) -> None:
        """Start it, unless it runs; what an earlier run of this id left is dropped.

        Raises: Unavailable: all places for programs are taken (NO_FREE_SLOT).
        """
        if (await self._launcher.probe(self.id)).state is ProbeState.RUNNING:
            return
        await self.discard()
        await asyncio.to_thread(write_spec, self.folder, spec)
        argv = [sys.executable, "-m", module, str(self.folder)]
        try:
            await self._launcher.start(
                LaunchSpec(self.id, argv, {}, self.folder, cpus=1, program=True, project=self._project, what=self._what)
            )
        except ModelryError:
            await self.discard()  # its spec has secrets
            raise

    async def finish(
        self, longest_seconds: float = math.inf, on_progress: OnProgress | None = None
    ) -> ProgramResult | None:
        """Wait for its end and return what it said; None: it broke off without a word.

        What `on_progress` raises ends the wait; the program runs on.
        Raises: Unavailable: it ran longer than `longest_seconds` and was killed.
        """
        deadline = time.monotonic() + longest_seconds
        told: Mapping[str, Any] | None = None
        while (await self._launcher.probe(self.id)).state is ProbeState.RUNNING:
            if time.monotonic() > deadline:
                await self._launcher.kill(self.id)
                raise Unavailable(f"{self.id} ran longer than {longest_seconds:g} s.", reason="PROGRAM_TOO_LONG")
            if on_progress is not None:
                progress = await asyncio.to_thread(shim.read_json, str(self.folder / PROGRESS_FILE))
                if progress is not None and progress != told:
                    told = progress
                    await on_progress(progress)
            await asyncio.sleep(POLL_SECONDS)
        return await asyncio.to_thread(read_result, self.folder)

    async def how_it_ended(self) -> str:
        """Return how it ended, for people: its exit code and the last line of its log."""
        probe = await self._launcher.probe(self.id)
        lines = (await self._launcher.logs(self.id, -_LAST_WORDS_BYTES)).text.strip().splitlines()
        return f"it ended {_exit_words(probe)}" + (f": {mask(lines[-1])[:500]}" if lines else "")

    async def discard(self) -> None:
        """End it, if it runs, and remove its folder."""
        await self._launcher.kill(self.id)
        await self._launcher.forget(self.id)
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)


def _exit_words(probe: Probe) -> str:
    if probe.exit_code is None:
        return probe.error or "and nobody saw how"
    return f"by signal {-probe.exit_code}" if probe.exit_code < 0 else f"with code {probe.exit_code}"
