"""The usage journal over a kill: what was written is booked, and booked once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.usage import UsageJournal, UsageOf
from services.chassis.errors import Unavailable
from services.clients.billing import UsageRecord
from services.clients.fakes.billing import FakeBilling

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[3]
WHOSE = UsageOf("proj-1", "key-1", "dep-1")
# A gateway whose billing is away: it counts, writes, and cannot send.
PROGRAM = """
import asyncio, sys
from pathlib import Path
from gateway.usage import UsageJournal, UsageOf
from services.chassis.errors import Unavailable

class Away:
    async def record_usage(self, project, record):
        raise Unavailable("away")

async def main():
    journal = UsageJournal(Path(sys.argv[1]), Away())
    await journal.start()
    for deployment in ("dep-1", "dep-2"):
        usage = {"prompt_tokens": 7, "completion_tokens": 3}
        journal.count(UsageOf("proj-1", "key-1", deployment), usage)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Leaving(FakeBilling):
    """Billing that goes away after it has booked one record, and does not say so."""

    async def record_usage(self, project: str, record: UsageRecord) -> None:
        """See `BillingClient.record_usage`."""
        await super().record_usage(project, record)
        raise Unavailable("The answer was lost.")


async def sent(journal: UsageJournal, folder: Path) -> None:
    """Run a journal until everything of its file is booked."""
    await journal.start()
    async with asyncio.timeout(20):
        while (folder / "usage.jsonl").exists():
            await asyncio.sleep(0.02)
    await journal.stop()


def killed_with_usage(folder: Path) -> None:
    """A gateway that was killed after it wrote its usage down."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder)], cwd=ROOT)
    path, deadline = folder / "usage.jsonl", time.monotonic() + 60
    try:
        while not path.exists() or path.read_bytes().count(b"\n") < 4:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()


async def test_usage_that_was_written_is_booked_by_the_next_process(tmp_path: Path) -> None:
    killed_with_usage(tmp_path)
    billing = FakeBilling()
    await sent(UsageJournal(tmp_path, billing), tmp_path)
    booked = {(one.resource_id, one.item): one.quantity for one in billing.records.values()}
    tokens = {"input-token": 7, "output-token": 3}
    assert booked == {(name, item): tokens[item] for name in ("dep-1", "dep-2") for item in tokens}


async def test_a_line_that_was_torn_by_the_kill_loses_only_itself(tmp_path: Path) -> None:
    killed_with_usage(tmp_path)
    with (tmp_path / "usage.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id": "usage-torn", "proj')
    billing = FakeBilling()
    await sent(UsageJournal(tmp_path, billing), tmp_path)
    assert len(billing.records) == 4


async def test_usage_whose_booking_was_not_answered_is_booked_once(tmp_path: Path) -> None:
    killed_with_usage(tmp_path)
    leaving = Leaving()
    journal = UsageJournal(tmp_path, leaving)
    await journal.start()
    async with asyncio.timeout(20):
        while not leaving.records:
            await asyncio.sleep(0.02)
    await journal.stop()
    billing = FakeBilling()
    billing.records.update(leaving.records)
    await sent(UsageJournal(tmp_path, billing), tmp_path)
    assert len(billing.records) == 4
    assert sum(one.quantity for one in billing.records.values()) == 20


async def test_what_is_counted_at_a_stop_is_sent_by_the_next_start(tmp_path: Path) -> None:
    journal = UsageJournal(tmp_path, FakeBilling())
    await journal.start()
    journal.count(WHOSE, {"prompt_tokens": 5, "completion_tokens": 0})
    await journal.stop()
    billing = FakeBilling()
    await sent(UsageJournal(tmp_path, billing), tmp_path)
    assert [one.quantity for one in billing.records.values()] == [5]
