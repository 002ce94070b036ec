"""The usage journal: tokens of every call, kept on disk until billing has booked them.

Counts are added up for a second for each (project, key, deployment), then written as lines with an id of their own; a
line is sent until billing has taken it, and billing books an id once.
"""

import contextlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from services.chassis.background import BackgroundLoop
from services.chassis.ids import new_id
from services.clients.billing import BillingClient, UsageRecord

FLUSH_SECONDS = 1.0
MOST_LINES = 100_000
_ITEMS = (("input-token", "prompt_tokens"), ("output-token", "completion_tokens"))
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UsageOf:
    """Whose usage it is, and of which deployment."""

    project: str
    key_id: str
    resource_id: str


class UsageJournal:
    """Counts tokens; `start` begins to write and send them."""

    def __init__(self, folder: Path, billing: BillingClient) -> None:
        self._path = folder / "usage.jsonl"
        self._billing = billing
        self._counts: dict[tuple[UsageOf, str], int] = {}
        self._lines: list[dict[str, Any]] = []
        self._loop = BackgroundLoop("usage journal", self._collect_and_send, FLUSH_SECONDS, at_once=False)
        self.degraded = self._loop.degraded

    def count(self, whose: UsageOf, usage: Mapping[str, Any] | None) -> None:
        """Add the tokens of one call; one that broke before its usage came adds none."""
        for item, name in _ITEMS:
            tokens = (usage or {}).get(name)
            if isinstance(tokens, int) and tokens > 0:
                self._counts[whose, item] = self._counts.get((whose, item), 0) + tokens

    async def start(self) -> None:
        """Read what an earlier process left, and go on sending."""
        with contextlib.suppress(FileNotFoundError):
            for line in self._path.read_text("utf-8").splitlines():
                with contextlib.suppress(ValueError):
                    self._lines.append(json.loads(line))
        await self._loop.start()

    async def stop(self) -> None:
        """Write what is counted and stop; the next start sends it."""
        await self._loop.stop()
        self._collect()

    async def _collect_and_send(self) -> None:
        self._collect()
        await self._send()

    def _collect(self) -> None:
        """Move counts into lines and make them durable."""
        if not self._counts:
            return
        counts, self._counts = self._counts, {}
        fresh = [
            {"id": new_id("usage-"), **vars(whose), "item": item, "quantity": tokens}
            for (whose, item), tokens in counts.items()
        ]
        if len(self._lines) + len(fresh) > MOST_LINES:
            _log.error("the usage journal is full: %d lines are lost", len(fresh))
            return
        self._lines += fresh
        with open(self._path, "a", encoding="utf-8", opener=partial(os.open, mode=0o600)) as file:
            file.writelines(json.dumps(line) + "\n" for line in fresh)
            file.flush()
            os.fsync(file.fileno())

    async def _send(self) -> None:
        """Book every line, then begin a new file; a crash before that books no id twice."""
        if not self._lines:
            return
        lines = list(self._lines)
        for line in lines:
            record = UsageRecord(**{name: value for name, value in line.items() if name != "project"})
            await self._billing.record_usage(line["project"], record)
        del self._lines[: len(lines)]
        if not self._lines:
            self._path.unlink(missing_ok=True)
