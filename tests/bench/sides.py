"""One of two servers under load: its requests, its records, its processes, and what was measured."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import psutil

from tests.bench.http_load import Load, MakeRequest
from tests.bench.processes import machine_cpu_seconds, tree_cpu_seconds

READ, UPDATE, CREATE = OPERATIONS = ("read", "update", "create")
RECORDS = 8
"""Records of each connection."""
WARM_SECONDS, SECONDS = 1.5, 1.5
REFUSED_SHARE, TRIES = 0.01, 4
QUIET_SHARE, QUIET_SECONDS, LONGEST_WAIT = 0.1, 0.3, 20.0


class Server(Protocol):
    """Makes the requests to a server."""

    def create(self, title: str) -> bytes:
        """Make a new record."""
        ...

    def read(self, record: str) -> bytes:
        """Read a record."""
        ...

    def update(self, record: str, title: str) -> bytes:
        """Change one text of a record."""
        ...

    def id_in(self, answer: Mapping[str, Any]) -> str:
        """The id of what `create` made."""
        ...


@dataclass(frozen=True)
class Sample:
    """A stretch of load: calls a second, and the share of the machine that programs outside of the bench took."""

    calls: int
    rate: float
    others: float
    client_cpu_seconds: float
    cpu_seconds: Mapping[str, float]
    """By part of the server, until it has finished what the calls left behind."""


class Side:
    """A server, and the samples of each operation.

    `parts` are its processes by name, each with those below it; `all` is the one above all others.
    """

    def __init__(self, name: str, server: Server, load: Load, parts: Mapping[str, psutil.Process]) -> None:
        self.name, self._server, self._load, self._parts = name, server, load, parts
        self._records: list[list[str]] = []
        self.samples: dict[str, list[Sample]] = defaultdict(list)

    async def prepare(self) -> None:
        """Make the records of each connection, and warm every operation up."""
        for _ in range(self._load.size):
            answers = [await self._load.ask(self._server.create("made")) for _ in range(RECORDS)]
            self._records.append([self._server.id_in(answer) for answer in answers])
        for operation in OPERATIONS:
            await self._load.run(WARM_SECONDS, self._maker(operation))
            await self._wait_until_quiet()

    async def measure(self, operation: str) -> None:
        """Add one sample; calls that fail make it worthless, and it is tried again. Raises: RuntimeError: in vain."""
        for _ in range(TRIES):
            before, machine = self._cpu_seconds(), machine_cpu_seconds()
            done = await self._load.run(SECONDS, self._maker(operation))
            if done.calls and done.refused <= done.calls * REFUSED_SHARE:
                break
        else:
            raise RuntimeError(f"{self.name}: {done.refused} calls of {operation} failed, {done.calls} were answered.")
        own = done.client_cpu_seconds + self._cpu_seconds()["all"] - before["all"]
        others = max(0.0, machine_cpu_seconds() - machine - own)
        await self._wait_until_quiet()
        after = self._cpu_seconds()
        sample = Sample(
            done.calls,
            done.rate,
            others / done.seconds / (os.cpu_count() or 1),
            done.client_cpu_seconds,
            {part: after[part] - before[part] for part in after},
        )
        self.samples[operation].append(sample)

    def cpu_of_call(self, operation: str, part: str) -> float:
        """CPU seconds of a part for one call of an operation."""
        samples = self.samples[operation]
        return sum(sample.cpu_seconds[part] for sample in samples) / sum(sample.calls for sample in samples)

    def client_cpu_of_call(self) -> float:
        """CPU seconds that the load itself costs for one call."""
        samples = [sample for found in self.samples.values() for sample in found]
        return sum(sample.client_cpu_seconds for sample in samples) / sum(sample.calls for sample in samples)

    def _maker(self, operation: str) -> MakeRequest:
        """The requests of an operation. Connections share no record: two writers of one would wait for each other."""
        if operation == CREATE:
            return lambda _, call: self._server.create(f"new {call}")
        if operation == READ:
            return lambda connection, call: self._server.read(self._records[connection][call % RECORDS])
        return lambda connection, call: self._server.update(self._records[connection][call % RECORDS], f"title {call}")

    def _cpu_seconds(self) -> dict[str, float]:
        return {part: tree_cpu_seconds(process) for part, process in self._parts.items()}

    async def _wait_until_quiet(self) -> None:
        """Wait until the server has finished what the calls left behind, so that the next turn is the other's alone."""
        for _ in range(int(LONGEST_WAIT / QUIET_SECONDS)):
            before = self._cpu_seconds()["all"]
            await asyncio.sleep(QUIET_SECONDS)
            if self._cpu_seconds()["all"] - before < QUIET_SHARE * QUIET_SECONDS:
                return
