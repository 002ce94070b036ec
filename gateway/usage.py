"""The usage journal: tokens of every call, kept on disk until billing has booked them.

A line is written when a call begins and when it ends. What ended is in the file before its caller has the last byte, so
that it outlives this process, and synced within a second, so that it outlives the machine. A segment of lines is added
up and sent once the one before is booked; a long outage makes one long segment, which is replaced by its sums. What
began and never ended (this process was killed), or ended before its last total, is counted and named in the log.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import TypeVar

from prometheus_client import Counter

from gateway.usage_segments import BEFORE, Line, Segment, encode_lines, left_open, read_lines, seal, unended
from gateway.usage_sender import UsageSender
from services.chassis.background import BackgroundLoop
from services.chassis.ids import new_id
from services.chassis.readiness import Lack
from services.clients.billing import BillingClient

SYNC_SECONDS = 0.5
BEGIN_SECONDS = 0.005
"""How long the line of a call that began may wait for company; nobody waits for it."""
MOST_BYTES = 8 << 20
"""How long a segment may be before sums take the place of its calls."""
T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UsageOf:
    """Whose usage it is, and of which deployment."""

    project: str
    key_id: str
    resource_id: str


class UsageJournal:
    """Notes calls; `start` begins to write and send them."""

    def __init__(self, folder: Path, billing: BillingClient) -> None:
        self._folder = folder / "usage"
        self._sender = UsageSender(self._folder, billing, self._hand_over)
        self._collector = BackgroundLoop("usage journal", self._collect, SYNC_SECONDS, at_once=False)
        self._name, self._numbers = new_id("call-"), count()
        self._open: dict[str, Line] = {}
        self._lines: list[Line] = []
        self._round: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self._writer = ThreadPoolExecutor(1, "usage-journal")
        self._files = asyncio.Lock()
        self._billable = False
        self._most = MOST_BYTES
        self._segment: Segment
        self.uncounted = Counter(
            "modelry_uncounted_calls", "Calls of which not all tokens could be counted.", ("reason",), registry=None
        )

    def begin(self, whose: UsageOf, request_id: str) -> Line:
        """Note that a call begins. Returns: what `end` is told."""
        name = f"{self._name}-{next(self._numbers)}"
        readable = request_id.encode("utf-8", "replace").decode()  # a client's own may be anything
        line = self._open[name] = Line(whose.project, whose.key_id, whose.resource_id, name, readable)
        self._lines.append(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BEGIN_SECONDS, self._write_soon)
        return line

    def end(self, call: Line, tokens: Mapping[str, int], uncounted: str = "") -> asyncio.Future[None]:
        """Note that a call ended; again changes nothing.

        Returns what is done once that is in the file; a full disk is not waited for.

        Args:
            tokens: by the item of the price list.
            uncounted: why these may not be all.
        """
        if self._open.pop(call.call, None) is None:
            ended = asyncio.get_running_loop().create_future()
            ended.set_result(None)
            return ended
        if uncounted:
            self._tell(call, uncounted)
        self._lines.append(Line(call.project, call.key_id, call.resource_id, call.call, tokens=dict(tokens)))
        return asyncio.shield(self._write_soon())

    def degraded(self) -> Sequence[Lack]:
        """Return what keeps usage from the disk or from billing."""
        return [*self._collector.degraded(), *self._sender.loop.degraded()]

    async def start(self) -> None:
        """Begin a fresh segment; what an earlier process left is sent."""
        await asyncio.to_thread(self._recover)
        await self._collector.start()
        await self._sender.loop.start()

    async def stop(self) -> None:
        """Make durable what is counted, and stop; the next start sends it."""
        await self._sender.loop.stop()
        await self._collector.stop()
        await self._write_soon()
        await self._collect()
        await self._in_writer(self._segment.close)
        self._writer.shutdown()

    def _recover(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in self._folder.glob("*.part"):
            part.unlink()
        with contextlib.suppress(FileNotFoundError):
            self._folder.with_suffix(".jsonl").rename(self._folder / BEFORE)
        left = left_open(self._folder)
        for line in unended(chain.from_iterable(map(read_lines, left))).values():
            self._tell(line, "killed")
        self._segment = Segment(self._folder)
        for path in left:
            seal(path)

    def _tell(self, call: Line, reason: str) -> None:
        self.uncounted.labels(reason).inc()
        _log.warning("not all tokens of call %s of key %s could be counted: %s", call.request_id, call.key_id, reason)

    def _write_soon(self) -> asyncio.Future[None]:
        """Let all lines that wait be written. Returns what is done when they are."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._round is None:
            self._round = asyncio.get_running_loop().create_future()
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        return self._round

    async def _write(self) -> None:
        while self._round is not None:
            lines, self._lines = self._lines, []
            written, self._round = self._round, None
            try:
                with contextlib.suppress(OSError):  # the segment keeps it; the collector says so and tries again
                    await self._in_writer(partial(self._append, lines))
            finally:
                self._billable = self._billable or any(line.tokens for line in lines)
                written.set_result(None)

    def _append(self, lines: Sequence[Line]) -> None:
        self._segment.append(encode_lines(lines))

    async def _in_writer(self, work: Callable[[], T]) -> T:
        """Do something with the segment in the one thread that writes it."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)

    async def _collect(self) -> None:
        """Make what was written durable, and short if it became long."""
        async with self._files:
            segment = self._segment
            await self._in_writer(partial(segment.append, b""))
            await asyncio.to_thread(segment.sync)
            if segment.size > self._most:
                await self._in_writer(segment.compact)
                self._most = max(MOST_BYTES, 2 * segment.size)
            for path in await asyncio.to_thread(left_open, self._folder):  # sealing it failed before
                await asyncio.to_thread(seal, path)

    async def _hand_over(self) -> None:
        """Seal the segment for the sender, if anything in it is to be billed, and begin a fresh one."""
        async with self._files:
            if self._billable:
                self._billable = False
                before = await self._in_writer(self._rotate)
                await asyncio.to_thread(before.seal)

    def _rotate(self) -> Segment:
        """Go on in a fresh segment, which knows the calls that are open. Raises: OSError: nothing changed."""
        before = self._segment
        before.append(b"")
        fresh = Segment(self._folder)
        fresh.append(encode_lines(list(self._open.values())))
        self._segment = fresh
        return before
