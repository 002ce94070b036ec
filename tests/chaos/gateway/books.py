"""Both sides of an inference call's books: what the engine says it counted, and what was billed for it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from gateway.usage_segments import read_lines, unended
from tests.stack import Stack

SETTLE_SECONDS = 60.0
STILL_SECONDS = 0.5
"""An engine whose counters stand still for so long has nothing to do: a token takes some milliseconds."""
_COUNTER = re.compile(r"^vllm:(prompt|generation)_tokens_total\{.*\} ([0-9.e+]+)$", re.MULTILINE)
_NAMED = re.compile(r"not all tokens of call (\S+) of key (\S+) could be counted: (\w+)")


class Tokens(NamedTuple):
    """Tokens in and out."""

    prompt: int
    generated: int

    def less(self, other: Tokens) -> Tokens:
        """What was added since."""
        return Tokens(self.prompt - other.prompt, self.generated - other.generated)


class Books:
    """The books of one deployment with one replica."""

    def __init__(self, stack: Stack, deployment_id: str) -> None:
        self._stack, self._deployment = stack, deployment_id

    def counted(self) -> Tokens:
        """What the engine's own counters say."""
        found = {name: int(float(value)) for name, value in _COUNTER.findall(self._metrics())}
        return Tokens(found["prompt"], found["generation"])

    def billed(self) -> Tokens:
        """What is booked on the deployment, whoever called it."""
        sums: Counter[str] = Counter()
        wanted = f'resource_id = "{self._deployment}"'
        for record in self._stack.client.pages("list_usage_records", "usage_records", filter=wanted, page_size=1000):
            sums[record.item] += int(record.quantity)
        return Tokens(sums["input-token"], sums["output-token"])

    async def open_account(self) -> Account:
        """Begin to compare: what was added is told by `close` of the account."""
        await self.rest()
        return Account(self, self.counted(), self.billed())

    async def rest(self) -> None:
        """Wait until the engine has nothing to do and billing has booked all that the gateway counted."""
        await asyncio.to_thread(until, self._at_rest)

    def named(self) -> list[tuple[str, str, str]]:
        """The calls that the gateway could not count whole: request id, key id and reason, from its log."""
        return _NAMED.findall((self._stack.home / "logs" / "gateway.log").read_text("utf-8", "replace"))

    def uncounted(self) -> int:
        """What the gateway's metric says of such calls, since it was started."""
        with urllib.request.urlopen(f"{self._stack.http}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        counts = re.findall(r"^modelry_uncounted_calls_total\{.*\} ([0-9.]+)$", text, re.MULTILINE)
        return int(sum(map(float, counts)))

    def models(self) -> list[str]:
        """What can be called now; nothing while the gateway is away."""
        request = urllib.request.Request(f"{self._stack.http}/v1/models")
        request.add_header("Authorization", f"Bearer {self._stack.admin_key}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return [model["id"] for model in json.load(answer)["data"]]
        except OSError:
            return []

    def _at_rest(self) -> bool:
        for path in (self._stack.home / "gateway" / "usage").glob("usage-*.jsonl"):
            try:
                lines = list(read_lines(path))
            except FileNotFoundError:  # it was booked at this moment
                return False
            if unended(lines) or any(line.tokens for line in lines):
                return False
        before = self.counted()
        time.sleep(STILL_SECONDS)
        return self.counted() == before

    def _metrics(self) -> str:
        routes = json.loads((self._stack.home / "gateway" / "routes.json").read_text("utf-8"))
        (replica,) = routes[self._deployment][1]["replicas"]
        headers = {"Authorization": f"Bearer {replica['secret']}"}
        request = urllib.request.Request(f"http://{replica['address']}/metrics", headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.read().decode())


class Account:
    """What both sides said when it was opened."""

    def __init__(self, books: Books, counted: Tokens, billed: Tokens) -> None:
        self._books, self._counted, self._billed = books, counted, billed

    async def close(self) -> tuple[Tokens, Tokens]:
        """Return what the engine has counted since, and what was billed for it."""
        await self._books.rest()
        return self._books.counted().less(self._counted), self._books.billed().less(self._billed)


async def kill_gateway(stack: Stack) -> None:
    """Kill the gateway; the supervisor starts another one."""
    before = stack.state["processes"]["gateway"]
    os.kill(int(before["identity"]["pid"]), signal.SIGKILL)
    await asyncio.to_thread(until, lambda: stack.state["processes"]["gateway"]["restarts"] > before["restarts"])


def until(holds: Callable[[], bool], seconds: float = SETTLE_SECONDS) -> None:
    """Wait for a fact. Raises: TimeoutError."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not come true")
        time.sleep(0.1)
