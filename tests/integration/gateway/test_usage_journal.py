"""The usage journal over a kill: what was written is booked, and booked once."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.usage import UsageJournal, UsageOf
from services.chassis.errors import Denied, Invalid, ModelryError, Unavailable
from services.clients.billing import UsageRecord
from services.clients.fakes.billing import FakeBilling

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[3]
WHOSE = UsageOf("proj-1", "key-1", "dep-1")
TOKENS = {"input-token": 7, "output-token": 3}
# A gateway whose billing is away: it counts, writes, and cannot send. One of its calls never ends.
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
        whose = UsageOf("proj-1", "key-1", deployment)
        journal.begin(whose, "req_open")
        await journal.end(journal.begin(whose, "req_ended"), {"input-token": 7, "output-token": 3})
    print("written", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Leaving(FakeBilling):
    """Billing that goes away after it has booked one record, and does not say so."""

    async def record_usage(self, project: str, record: UsageRecord) -> None:
        """See `BillingClient.record_usage`."""
        await super().record_usage(project, record)
        raise Unavailable("The answer was lost.")


def segments(folder: Path) -> list[Path]:
    return sorted((folder / "usage").glob("usage-*.jsonl"))


async def called(journal: UsageJournal, times: int = 1, whose: UsageOf = WHOSE) -> None:
    """Calls that end."""
    ended = [journal.end(journal.begin(whose, f"req_{number}"), TOKENS) for number in range(times)]
    await asyncio.gather(*ended)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.02)


async def sent(journal: UsageJournal, folder: Path) -> None:
    """Run a journal until everything that was left is booked."""
    await journal.start()
    await until(lambda: len(segments(folder)) == 1)
    await journal.stop()


def killed_with_usage(folder: Path) -> None:
    """A gateway that was killed right after its callers had their last byte."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder)], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"written\n"
    process.kill()
    process.wait()
    process.stdout.close()


def quantities(billing: FakeBilling) -> list[float]:
    return sorted(one.quantity for one in billing.records.values())


async def test_usage_that_was_written_is_booked_by_the_next_process(tmp_path: Path) -> None:
    killed_with_usage(tmp_path)
    billing = FakeBilling()
    await sent(UsageJournal(tmp_path, billing), tmp_path)
    booked = {(one.resource_id, one.item): one.quantity for one in billing.records.values()}
    assert booked == {(name, item): TOKENS[item] for name in ("dep-1", "dep-2") for item in TOKENS}


async def test_a_call_that_a_kill_ended_is_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    killed_with_usage(tmp_path)
    journal = UsageJournal(tmp_path, FakeBilling())
    await sent(journal, tmp_path)
    assert journal.uncounted.labels("killed")._value.get() == 2
    assert caplog.text.count("req_open of key key-1") == 2 and "req_ended" not in caplog.text


async def test_a_call_that_is_open_over_segments_is_booked_once_when_it_ends(tmp_path: Path) -> None:
    billing = FakeBilling()
    journal = UsageJournal(tmp_path, billing)
    await journal.start()
    long_one = journal.begin(WHOSE, "req_long")
    await called(journal)
    await until(lambda: len(billing.records) == 2)
    await journal.end(long_one, TOKENS)
    journal.end(long_one, TOKENS)
    await until(lambda: len(billing.records) == 4)
    await journal.stop()
    await sent(UsageJournal(tmp_path, billing), tmp_path)
    assert quantities(billing) == [3, 3, 7, 7]


@pytest.mark.parametrize("torn", [b'{"project":"proj-1","key_', b"\xff\x00\n", b"[]\n", b'{"tokens":{"x":"y"}}\n'])
async def test_a_line_that_was_torn_by_the_kill_loses_only_itself(tmp_path: Path, torn: bytes) -> None:
    killed_with_usage(tmp_path)
    (left,) = segments(tmp_path)
    whole = left.read_bytes()
    left.write_bytes(whole[: whole.index(b"\n") + 1] + torn.removesuffix(b"\n") + b"\n" + whole + torn)
    billing = FakeBilling()
    await sent(UsageJournal(tmp_path, billing), tmp_path)
    assert quantities(billing) == [3, 3, 7, 7]


async def test_usage_whose_booking_was_not_answered_is_booked_once(tmp_path: Path) -> None:
    killed_with_usage(tmp_path)
    leaving = Leaving()
    journal = UsageJournal(tmp_path, leaving)
    await journal.start()
    await until(lambda: leaving.records)
    await journal.stop()
    billing = FakeBilling()
    billing.records.update(leaving.records)
    await sent(UsageJournal(tmp_path, billing), tmp_path)
    assert quantities(billing) == [3, 3, 7, 7]


async def test_what_is_counted_at_a_stop_is_sent_by_the_next_start(tmp_path: Path) -> None:
    journal = UsageJournal(tmp_path, FakeBilling())
    await journal.start()
    await called(journal)
    await journal.stop()
    billing = FakeBilling()
    await sent(UsageJournal(tmp_path, billing), tmp_path)
    assert quantities(billing) == [3, 7]


async def test_a_long_outage_is_added_up_and_nothing_of_it_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.usage.MOST_BYTES", 20_000)
    billing = FakeBilling()
    billing.away.add("record_usage")
    journal = UsageJournal(tmp_path, billing)
    await journal.start()
    await called(journal)
    await until(lambda: len(segments(tmp_path)) == 2)  # one waits for billing, the other one grows
    open_one = journal.begin(WHOSE, "req_open")
    for _ in range(50):
        await called(journal, 20)
    await until(lambda: segments(tmp_path)[-1].stat().st_size < 20_000)
    assert len(segments(tmp_path)) == 2
    await journal.end(open_one, TOKENS)
    billing.away.clear()
    await until(lambda: sum(quantities(billing)) == 10 * 1002)
    await journal.stop()
    assert len(billing.records) <= 6


class Refusing(FakeBilling):
    """Billing that never takes one of its items."""

    def __init__(self, error: ModelryError) -> None:
        super().__init__()
        self.error = error

    async def record_usage(self, project: str, record: UsageRecord) -> None:
        """See `BillingClient.record_usage`."""
        if record.item == "input-token":
            raise self.error
        await super().record_usage(project, record)


@pytest.mark.parametrize("error", [Invalid("no", field="item"), Denied("no"), ModelryError("a surprise")], ids=repr)
async def test_what_billing_refuses_is_kept_and_holds_up_nothing(
    tmp_path: Path, error: ModelryError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.usage_sender.MOST_TRIES", 2)
    billing = Refusing(error)
    journal = UsageJournal(tmp_path, billing)
    await journal.start()
    await called(journal, 2)
    kept = tmp_path / "usage" / "refused.jsonl"
    await until(kept.exists)
    await called(journal)
    await until(lambda: sum(quantities(billing)) == 9 and len(segments(tmp_path)) == 1)
    await journal.stop()
    again = FakeBilling()
    kept.rename(kept.with_name("usage-again.jsonl"))  # what an administrator does who has mended it
    await sent(UsageJournal(tmp_path, again), tmp_path)
    assert sum(quantities(again)) == 14 + 7


async def test_a_full_disk_holds_up_no_call_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    billing, real, room = FakeBilling(), os.write, 100

    def write(descriptor: int, data: bytes) -> int:
        nonlocal room
        if room <= 0:
            raise OSError(28, "No space left on device")
        written = real(descriptor, data[:room])
        room -= written
        return written

    journal = UsageJournal(tmp_path, billing)
    await journal.start()
    monkeypatch.setattr(os, "write", write)
    await called(journal, 30)
    room = 1 << 30
    await until(lambda: sum(quantities(billing)) == 300)
    await journal.stop()


async def test_a_second_gateway_in_the_same_home_leaves_the_segment_of_the_first_alone(tmp_path: Path) -> None:
    billing, first, second = FakeBilling(), UsageJournal(tmp_path, FakeBilling()), UsageJournal(tmp_path, FakeBilling())
    await first.start()
    open_one = first.begin(WHOSE, "req_\udcff")
    await second.start()
    await second.stop()
    await first.end(open_one, TOKENS)
    await first.stop()
    last = UsageJournal(tmp_path, billing)
    await sent(last, tmp_path)
    assert quantities(billing) == [3, 7]


async def test_calls_do_not_wait_for_a_slow_disk_to_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncing, go_on = threading.Event(), threading.Event()
    real = os.fsync

    def sync(descriptor: int) -> None:
        syncing.set()
        go_on.wait(20)
        real(descriptor)

    journal = UsageJournal(tmp_path, FakeBilling())
    await journal.start()
    monkeypatch.setattr(os, "fsync", sync)
    await until(syncing.is_set)
    async with asyncio.timeout(5):
        await called(journal, 100)
    go_on.set()
    await journal.stop()


async def test_what_the_one_file_of_before_holds_is_booked_by_its_own_ids(tmp_path: Path) -> None:
    line = '{"id": "usage-1", "project": "proj-1", "key_id": "key-1", "resource_id": "dep-1", "item": "input-token", '
    (tmp_path / "usage.jsonl").write_text(f'{line}"quantity": 7}}\n{line}"quant')  # the machine went off in the second
    billing = FakeBilling()
    journal = UsageJournal(tmp_path, billing)
    await journal.start()
    await until(lambda: not segments(tmp_path)[:-1])
    await journal.stop()
    assert list(billing.records.values()) == [
        UsageRecord(id="usage-1", item="input-token", quantity=7, resource_id="dep-1", key_id="key-1")
    ]
    assert not (tmp_path / "usage.jsonl").exists()
