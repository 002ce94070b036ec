"""Hands sealed segments of the usage journal to billing, which books each record once by its id.

A segment is removed when all of its records are booked or refused; a refused one is kept in `refused.jsonl`, whose
lines are those of a segment. What billing cannot take now is sent again for as long as it takes.
"""

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.usage_segments import Line, encode_lines, records, sealed
from services.chassis.background import BackgroundLoop
from services.chassis.errors import Conflict, ModelryError, OverLimit, Unauthenticated, Unavailable
from services.chassis.files import sync_folder
from services.clients.billing import BillingClient, UsageRecord

SEND_SECONDS = 1.0
BATCH = 64
"""How many records are on their way at a time: access books those that meet with one commit."""
MOST_TRIES = 10
"""After how many inner errors of billing a record counts as refused."""
_LATER = (Unavailable, OverLimit, Conflict, Unauthenticated)
_log = logging.getLogger(__name__)


class UsageSender:
    """Sends segment after segment; `seal` is asked for the next one when none waits."""

    def __init__(self, folder: Path, billing: BillingClient, seal: Callable[[], Awaitable[None]]) -> None:
        self._folder, self._billing, self._seal = folder, billing, seal
        self._booked: set[str] = set()
        self._failures: Counter[str] = Counter()
        self.loop = BackgroundLoop("sending of usage", self._send, SEND_SECONDS, at_once=False)

    async def _send(self) -> None:
        if not await asyncio.to_thread(sealed, self._folder):
            await self._seal()
        for path in await asyncio.to_thread(sealed, self._folder):
            await self._send_segment(path)

    async def _send_segment(self, path: Path) -> None:
        """Book a whole segment, then remove it. Raises: ModelryError: some of it must be sent again."""
        waiting = [one for one in await asyncio.to_thread(list, records(path)) if one[1].id not in self._booked]
        left: ModelryError | None = None
        for start in range(0, len(waiting), BATCH):
            for problem in await asyncio.gather(*(self._book(*one) for one in waiting[start : start + BATCH])):
                left = problem or left
            if isinstance(left, Unavailable):
                raise left
        if left is not None:
            raise left
        await asyncio.to_thread(path.unlink, missing_ok=True)
        self._booked.clear()
        self._failures.clear()

    async def _book(self, project: str, record: UsageRecord) -> ModelryError | None:
        """Book one record. Returns: why it must be sent again."""
        try:
            await self._billing.record_usage(project, record)
        except ModelryError as error:
            if not self._refused(record.id, error):
                return error
            _log.error("billing refuses the usage %s of key %s: %s", record.id, record.key_id, error.message)
            await asyncio.to_thread(self._keep, project, record)
        self._booked.add(record.id)
        return None

    def _refused(self, record_id: str, error: ModelryError) -> bool:
        if isinstance(error, _LATER):
            return False
        self._failures[record_id] += 1
        return type(error) is not ModelryError or self._failures[record_id] >= MOST_TRIES

    def _keep(self, project: str, record: UsageRecord) -> None:
        # By the record's id, since a process that dies now refuses it again.
        line = Line(project, record.key_id, record.resource_id, record.id, tokens={record.item: int(record.quantity)})
        path = self._folder / "refused.jsonl"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, encode_lines([line]))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(self._folder)
