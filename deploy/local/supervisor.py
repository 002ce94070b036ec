"""Keeps the embedded stack alive: starts everything at once, restarts what dies, stops it in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.local.child import Backoff, Child
from deploy.local.files import LOOPBACK
from deploy.local.home import CannotStart, Home, choose_ports, door_host, refuse_temporary_folder
from deploy.local.logs import rotate, tail
from deploy.local.shutdown import end_launched, end_left_processes, wait_released
from deploy.local.stack import DOOR, GROUND, SERVICE, Stack, version
from services.chassis.launch import shim

ROTATE_SECONDS = 5.0


@dataclass(frozen=True)
class Options:
    """How a start was asked for. Ports that are None are the last start's, or chosen."""

    ports: Mapping[str, int | None] = field(default_factory=dict)
    host: str = ""
    only: frozenset[str] | None = None
    ready_seconds: float = 60.0
    backoff: Backoff = field(default_factory=Backoff)


class Supervisor:
    """Serves one home:

    async with Supervisor(Path("~/.modelry"), Options(only=frozenset({"nats", "objects"}))) as supervisor:
        print(supervisor.addresses())
    """

    def __init__(self, home: Path, options: Options | None = None) -> None:
        """Nothing is started yet."""
        self.home = Home(home)
        self.options = options or Options()
        self.children: list[Child] = []
        self.ready = False
        self._unwritten = False
        self._stack: Stack | None = None
        self._exit = contextlib.AsyncExitStack()
        self._begin = time.time()

    async def __aenter__(self) -> Supervisor:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def addresses(self) -> dict[str, str]:
        """Return where the installation answers."""
        assert self._stack is not None
        return self._stack.addresses()

    async def start(self) -> None:
        """Start everything and wait until it is ready.

        Raises: CannotStart: another supervisor, a taken port, a wrong setting, or not ready in time; nothing runs then.
        """
        self._exit.enter_context(self.home.lock())
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        refuse_temporary_folder(os.environ)
        self.home.prepare()
        before = self.home.state()
        noted = noted_processes(before)
        await end_left_processes(self.home.path, noted)
        host = door_host(self.options.host or before.get("host", LOOPBACK))
        if noted:
            await wait_released(before.get("ports", {}).values(), host)
        ports = choose_ports(before.get("ports", {}), self.options.ports, host)
        self._stack = Stack(self.home, ports, host)
        self._stack.prepare(self.options.only)
        for program in self._stack.programs(self.options.only):
            log = self.home.logs / f"{program.name}.log"
            rotate(log)
            self.children.append(Child(program, log, self._write_state, self.options.backoff))
        self._write_state()
        for child in self.children:
            child.start()
        rotation = asyncio.create_task(self._rotate_logs())
        self._exit.callback(rotation.cancel)
        await self._wait_ready()
        self.ready = True
        self._write_state()

    async def _wait_ready(self) -> None:
        """All ready, and the first admin key written; or why not."""
        waiting = [asyncio.create_task(self._one_ready(child)) for child in self.children]
        try:
            async with asyncio.timeout(self.options.ready_seconds):
                await asyncio.gather(*waiting)
                if any(child.program.name == "access" for child in self.children):
                    await self._wait_admin_key()
        except TimeoutError:
            missing = [child for child in self.children if not child.ready.is_set()]
            raise CannotStart(self._missing_words(missing)) from None
        finally:
            for task in waiting:
                task.cancel()

    async def _one_ready(self, child: Child) -> None:
        ready = asyncio.create_task(child.ready.wait())
        refused = asyncio.create_task(child.refused.wait())
        try:
            await asyncio.wait((ready, refused), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
            refused.cancel()
        if not child.ready.is_set():
            raise CannotStart(f"{child.program.name} does not start: {tail(child.log, 1)}")

    async def _wait_admin_key(self) -> None:
        while not self.home.admin_key_file.exists():
            await asyncio.sleep(0.05)

    def _missing_words(self, missing: Sequence[Child]) -> str:
        seconds = f"{self.options.ready_seconds:g} s"
        if not missing:
            return f"access wrote no {self.home.admin_key_file} within {seconds}; see {self.home.logs}/access.log"
        shown = [
            f"{child.program.name} is not ready within {seconds}; {child.log} ends:\n{tail(child.log)}"
            for child in missing
        ]
        return "\n".join(shown)

    async def stop(self) -> None:
        """Stop doors, services, workers and replicas, then NATS and the object store. Jobs keep their state."""
        self.ready = False
        await self._stop_children(DOOR)
        await self._stop_children(SERVICE)
        if any(child.program.order == SERVICE for child in self.children):
            await end_launched(self.home.path)
        await self._stop_children(GROUND)
        if self._stack is not None:
            with contextlib.suppress(OSError):  # a full disk: the next `up` sees that nothing lives
                self._write_state()
        await self._exit.aclose()

    async def _stop_children(self, order: int) -> None:
        await asyncio.gather(*(child.stop() for child in self.children if child.program.order == order))

    async def _rotate_logs(self) -> None:
        while True:
            await asyncio.sleep(ROTATE_SECONDS)
            with contextlib.suppress(OSError):  # a full disk: again in a moment
                if self._unwritten:
                    self._write_state()
                for path in self.home.logs.glob("*.log"):
                    await asyncio.to_thread(rotate, path)

    def _write_state(self) -> None:
        """What `status`, `down` and a later `up` need to know."""
        assert self._stack is not None
        self._unwritten = True
        self.home.write_state(
            {
                "version": version(),
                "host": self._stack.host,
                "ports": self._stack.ports,
                "supervisor": shim.identity(os.getpid()),
                "start_time": self._begin,
                "ready": self.ready,
                "addresses": self._stack.addresses(),
                "processes": {child.program.name: describe(child) for child in self.children},
            }
        )
        self._unwritten = False


def describe(child: Child) -> dict[str, Any]:
    """Return one process as state.json has it."""
    return {
        "address": child.program.address,
        "identity": child.identity,
        "ready": child.ready.is_set() and child.identity is not None,
        "restarts": child.restarts,
        "exit_code": child.exit_code,
    }


def noted_processes(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the identities of the control plane in a state.json."""
    processes: Iterable[Mapping[str, Any]] = state.get("processes", {}).values()
    return [process["identity"] for process in processes if process.get("identity")]
