"""One supervised process: started, watched, started again with a growing pause, and stopped."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.logs import open_log
from deploy.local.shutdown import kill_group
from deploy.local.stack import Program
from services.chassis.launch import shim

# A process of ours that ends with this code was given a setting that is wrong: starting it again cannot help.
WRONG_SETTING = 2


@dataclass(frozen=True)
class Backoff:
    """The pauses between two starts: doubled each time, forgotten after a good while."""

    first_seconds: float = 0.5
    most_seconds: float = 30.0
    forget_after_seconds: float = 60.0

    def pause(self, failures: int) -> float:
        """Return how long to wait after so many short lives in a row (from 1)."""
        return float(min(self.most_seconds, self.first_seconds * 2 ** min(failures - 1, 16)))


class Child:
    """Keeps one program running until it is told to stop."""

    def __init__(self, program: Program, log: Path, changed: Callable[[], None], backoff: Backoff) -> None:
        """`changed` is called whenever the process is another one."""
        self.program, self.log, self._changed, self.backoff = program, log, changed, backoff
        self.process: asyncio.subprocess.Process | None = None
        self.identity: dict[str, Any] | None = None
        self.restarts = 0
        self.exit_code: int | None = None
        self.ready = asyncio.Event()
        self.refused = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to keep it alive."""
        self._task = asyncio.create_task(self._keep(), name=f"keep {self.program.name}")

    async def stop(self) -> None:
        """Ask it to end, then insist; returns when nothing of it lives."""
        self._stopping.set()
        process = self.process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), self.program.grace_seconds)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        if self._task is not None:
            await self._task

    async def _keep(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            begin = time.monotonic()
            await self._live_once()
            if self._stopping.is_set() or (self.exit_code == WRONG_SETTING and not self.ready.is_set()):
                self.refused.set()
                return
            failures = 1 if time.monotonic() - begin > self.backoff.forget_after_seconds else failures + 1
            self.restarts += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self.backoff.pause(failures))

    async def _live_once(self) -> None:
        """Live once, from the start to the end of all that it started."""
        try:
            descriptor = open_log(self.log)
        except OSError:  # a full disk: it lives without a log until it is started again
            descriptor = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            self.process = await asyncio.create_subprocess_exec(
                *self.program.argv,
                env=dict(self.program.environment),
                cwd="/",  # nothing of the folder in which `up` was called
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                start_new_session=True,
            )
        except OSError as error:
            with contextlib.suppress(OSError):
                os.write(descriptor, f"{self.program.argv[0]} cannot be started: {error.strerror}\n".encode())
            self.exit_code = WRONG_SETTING
            return
        finally:
            os.close(descriptor)
        pid = self.process.pid
        self.identity = shim.identity(pid)
        self._tell()
        watch = asyncio.create_task(self._watch_ready())
        self.exit_code = await self.process.wait()
        watch.cancel()
        self.identity = None
        kill_group(pid)
        self._tell()

    def _tell(self) -> None:
        """Say that it is another one. A full disk keeps that from being written down, and ends nothing here."""
        with contextlib.suppress(OSError):  # the supervisor writes all of it again before long
            self._changed()

    async def _watch_ready(self) -> None:
        """Note when it is ready for the first time."""
        while not self.ready.is_set():
            if await self.program.ready():
                self.ready.set()
                self._tell()
            else:
                await asyncio.sleep(0.1)
