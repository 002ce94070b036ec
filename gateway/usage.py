"""The usage journal: tokens of every call, kept on disk until billing has booked them.

Counts are added up for a second for each (project, key, deployment), then written as lines with an id of their own; a
line is sent until billing has taken it, and billing books an id once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelry.billing.v1 import internal_pb2
from services.chassis.errors import ModelryError
from services.chassis.ids import new_id
from services.chassis.rpc import Peers

FLUSH_SECONDS = 1.0
MOST_LINES = 100_000
_ITEMS = (("input-token", "prompt_tokens"), ("output-token", "completion_tokens"))
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UsageOf:
    """Whose usage it is, and of what."""

    project: str
    key_id: str
    deployment_id: str


class UsageJournal:
    """Counts tokens; `start` begins to write and send them."""

    def __init__(self, folder: Path, peers: Peers) -> None:
        self._path = folder / "usage.jsonl"
        self._peers = peers
        self._counts: dict[tuple[UsageOf, str], int] = {}
        self._lines: list[dict[str, Any]] = []
        self._task: asyncio.Task[None] | None = None
        self.uncounted = 0

    def count(self, whose: UsageOf, usage: Mapping[str, Any] | None) -> None:
        """Add the tokens of one call; a call that broke before its usage came is counted as such."""
        if usage is None:
            self.uncounted += 1
            return
        for item, name in _ITEMS:
            tokens = usage.get(name)
            if isinstance(tokens, int) and tokens > 0:
                self._counts[whose, item] = self._counts.get((whose, item), 0) + tokens

    async def start(self) -> None:
        """Read what an earlier process left, and go on sending."""
        with contextlib.suppress(FileNotFoundError):
            for line in self._path.read_text("utf-8").splitlines():
                with contextlib.suppress(ValueError):
                    self._lines.append(json.loads(line))
        self._task = asyncio.create_task(self._run(), name="usage")

    async def stop(self) -> None:
        """Write what is counted and stop; the next start sends it."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._collect()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                self._collect()
                await self._send()
            except ModelryError as error:
                _log.info("usage waits: %s", error)
            except Exception:
                _log.exception("usage could not be sent")

    def _collect(self) -> None:
        """Move counts into lines and make them durable."""
        if not self._counts:
            return
        counts, self._counts = self._counts, {}
        fresh = [
            {
                "id": new_id("usage-"),
                "project": whose.project,
                "key_id": whose.key_id,
                "resource_id": whose.deployment_id,
                "item": item,
                "quantity": tokens,
            }
            for (whose, item), tokens in counts.items()
        ]
        if len(self._lines) + len(fresh) > MOST_LINES:
            _log.error("the usage journal is full: %d lines are lost", len(fresh))
            return
        self._lines += fresh
        with os.fdopen(
            os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w", encoding="utf-8"
        ) as file:
            file.writelines(json.dumps(line) + "\n" for line in fresh)
            file.flush()
            os.fsync(file.fileno())

    async def _send(self) -> None:
        """Book every line, then begin a new file; a crash before that books no id twice."""
        if not self._lines:
            return
        lines = list(self._lines)
        for line in lines:
            request = internal_pb2.RecordUsageRequest(
                record_id=line["id"],
                item=line["item"],
                quantity=line["quantity"],
                resource_id=line["resource_id"],
                key_id=line["key_id"],
            )
            await self._peers.billing_internal.RecordUsage(request, metadata=self._peers.metadata(line["project"]))
        del self._lines[: len(lines)]
        if not self._lines:
            self._path.unlink(missing_ok=True)
