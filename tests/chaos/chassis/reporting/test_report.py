"""A worker's reports on real NATS: in order, once each, whatever happens to NATS and to the worker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.js.api import StreamConfig

from deploy.local.testing import RealNats
from services.chassis.reporting import Reporter, read_spool

pytestmark = pytest.mark.chaos

ROOT = Path(__file__).resolve().parents[4]
SUBJECT, HEARTBEAT = "modelry.work.training.ftjob-1", "modelry.heartbeat.training.ftjob-1"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RealNats]:
    with RealNats(tmp_path / "nats") as server:
        yield server


@asynccontextmanager
async def client(server: RealNats) -> AsyncIterator[Client]:
    connection = await nats.connect(server.url, user="services", password=server.passwords["services"])
    try:
        yield connection
    finally:
        await connection.close()


async def make_stream(server: RealNats, duplicate_window: float = 3600) -> None:
    async with client(server) as connection:
        config = StreamConfig(name="MODELRY_WORK", subjects=["modelry.work.>"], duplicate_window=duplicate_window)
        await connection.jetstream().add_stream(config)


def attempt(folder: Path, server: RealNats, heartbeat_seconds: float = 0.1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    spec = {
        "format": 1, "stage": "training", "job_id": "ftjob-1", "project": "p", "attempt": 2, "token": 7,
        "secret": "5ec4e7", "subject": SUBJECT, "heartbeat_subject": HEARTBEAT, "heartbeat_seconds": heartbeat_seconds,
        "nats": {"url": server.url, "user": "services", "password": server.passwords["services"]},
        "trace": {"traceparent": "00-1234567890abcdef1234567890abcdef-1234567890abcdef-01"}, "work": {"x": 1},
    }  # fmt: skip
    (folder / "spec.json").write_text(json.dumps(spec))
    return folder


async def stored(server: RealNats, count: int) -> list[tuple[dict[str, str], dict[str, Any]]]:
    """Headers and content of everything in the stream, which must be `count` messages."""
    async with client(server) as connection:
        js = connection.jetstream()
        async with asyncio.timeout(15):
            while (await js.stream_info("MODELRY_WORK")).state.messages < count:
                await asyncio.sleep(0.02)
        state = (await js.stream_info("MODELRY_WORK")).state
        found = [await js.get_msg("MODELRY_WORK", seq) for seq in range(state.first_seq, state.last_seq + 1)]
    assert len(found) == count
    return [(message.headers or {}, json.loads(message.data or b"")) for message in found]


def close(reporter: Reporter, timeout: float = 10.0) -> Any:
    return asyncio.to_thread(reporter.close, timeout)


async def test_reports_arrive_in_order_with_ids_and_trace(server: RealNats, tmp_path: Path) -> None:
    await make_stream(server)
    reporter = Reporter(attempt(tmp_path / "a", server), handle_signals=False)
    assert reporter.spec["work"] == {"x": 1}
    reporter.send("started", {"pid": 1})
    reporter.metrics(1, {"loss": 2.0, "broken": float("nan")})
    reporter.metrics(1, {"learning_rate": 0.1})
    reporter.metrics(2, {"loss": 1.0})
    reporter.progress(1, 10, "steps")
    reporter.progress(2, 10, "steps")
    assert reporter.send("finished", {"result": {}}) == 4
    assert await close(reporter)
    messages = await stored(server, 4)
    assert [headers["Nats-Msg-Id"] for headers, _ in messages] == [f"ftjob-1-2-{n}" for n in range(1, 5)]
    assert all("1234567890abcdef" in headers["traceparent"] for headers, _ in messages)
    reports = [report for _, report in messages]
    assert [(r["number"], r["kind"], r["token"], r["attempt"], r["format"]) for r in reports] == [
        (1, "started", 7, 2, 1), (2, "metrics", 7, 2, 1), (3, "progress", 7, 2, 1), (4, "finished", 7, 2, 1),
    ]  # fmt: skip
    assert reports[1]["body"]["points"] == [
        {"step": 1, "values": {"loss": 2.0, "learning_rate": 0.1}},
        {"step": 2, "values": {"loss": 1.0}},
    ]
    assert reports[2]["body"]["done"] == 2
    assert read_spool(tmp_path / "a") == reports


async def test_gathered_points_go_without_another_report(server: RealNats, tmp_path: Path) -> None:
    await make_stream(server)
    with Reporter(attempt(tmp_path / "a", server), handle_signals=False) as reporter:
        reporter.metrics(1, {"loss": 2.0})
        await stored(server, 1)


async def test_nats_away_at_the_start_and_stopped_in_between(server: RealNats, tmp_path: Path) -> None:
    await make_stream(server)
    server.stop()
    reporter = Reporter(attempt(tmp_path / "a", server), handle_signals=False)
    for number in range(20):
        reporter.send("progress", {"done": number})
    server.start()
    await stored(server, 20)
    server.kill()
    for number in range(20, 30):
        reporter.send("progress", {"done": number})
    server.start()
    messages = await stored(server, 30)
    assert [report["body"]["done"] for _, report in messages] == list(range(30))
    assert await close(reporter)


async def test_a_paused_nats_gets_no_report_twice(server: RealNats, tmp_path: Path) -> None:
    await make_stream(server)
    reporter = Reporter(attempt(tmp_path / "a", server), handle_signals=False)
    reporter.send("progress", {"done": 0})
    await stored(server, 1)
    server.pause()
    reporter.send("progress", {"done": 1})
    reporter.send("finished", {})
    assert not await close(reporter, 7)  # longer than an acknowledgement may take: it was sent again meanwhile
    server.resume()
    with Reporter(tmp_path / "a", handle_signals=False):  # the next start of this folder sends what is left
        messages = await stored(server, 3)
    assert [report["number"] for _, report in messages] == [1, 2, 3]


async def test_a_missing_stream_is_waited_for(server: RealNats, tmp_path: Path) -> None:
    reporter = Reporter(attempt(tmp_path / "a", server), handle_signals=False)
    reporter.send("started", {})
    assert not await close(reporter, 1)
    await make_stream(server)
    with Reporter(tmp_path / "a", handle_signals=False):
        await stored(server, 1)


async def test_heartbeats_tell_attempt_token_number_and_state(server: RealNats, tmp_path: Path) -> None:
    await make_stream(server)
    async with client(server) as connection:
        heard = await connection.subscribe(HEARTBEAT)
        await connection.flush()
        reporter = Reporter(attempt(tmp_path / "a", server), handle_signals=False)
        first = json.loads((await heard.next_msg(5)).data)
        who = {"format": 1, "job_id": "ftjob-1", "attempt": 2, "token": 7, "secret": "5ec4e7"}
        assert first == {**who, "number": 0, "state": "RUNNING"}
        reporter.send("started", {})
        reporter.stop_requested.set()
        async with asyncio.timeout(5):
            while (beat := json.loads((await heard.next_msg(5)).data))["number"] != 1 or beat["state"] != "STOPPING":
                pass
        assert await close(reporter)


async def test_a_report_that_is_too_large_is_refused(server: RealNats, tmp_path: Path) -> None:
    with_nobody = Reporter(attempt(tmp_path / "a", server), handle_signals=False)
    with pytest.raises(ValueError, match="at most"):
        with_nobody.send("result", {"text": "x" * 600_000})
    assert with_nobody.last_number == 0
    assert await close(with_nobody, 0)


WORKER = """
    import os, sys, time
    from services.chassis.reporting import Reporter
    reporter = Reporter(sys.argv[1])
    reporter.send("started", {"pid": os.getpid()})
    print("ready", flush=True)
    step = 0
    while not reporter.stop_requested.wait(0.001):
        step += 1
        reporter.metrics(step, {"loss": 1.0 / step})
        if step % 50 == 0:
            reporter.send("checkpoint", {"step": step})
    reporter.send("stopped", {"step": step})
    reporter.close()
"""


def worker(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WORKER), str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


async def test_a_sigterm_ends_a_worker_with_a_last_word(server: RealNats, tmp_path: Path) -> None:
    await make_stream(server)
    with await asyncio.to_thread(worker, attempt(tmp_path / "a", server)) as process:
        await stored_at_least(server, 5)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 10) == 0
    reports = read_spool(tmp_path / "a")
    assert reports[-1]["kind"] == "stopped"
    points = [point["step"] for r in reports if r["kind"] == "metrics" for point in r["body"]["points"]]
    assert points == list(range(1, reports[-1]["body"]["step"] + 1))
    assert [report for _, report in await stored(server, len(reports))] == reports


async def stored_at_least(server: RealNats, count: int) -> None:
    async with client(server) as connection, asyncio.timeout(15):
        while (await connection.jetstream().stream_info("MODELRY_WORK")).state.messages < count:
            await asyncio.sleep(0.02)


async def test_a_killed_worker_leaves_what_it_did_not_send(server: RealNats, tmp_path: Path) -> None:
    await make_stream(server)
    with await asyncio.to_thread(worker, attempt(tmp_path / "a", server)) as process:
        await stored_at_least(server, 3)
        server.kill()
        seen = len(read_spool(tmp_path / "a"))
        async with asyncio.timeout(10):
            while len(read_spool(tmp_path / "a")) < seen + 5:
                await asyncio.sleep(0.02)
        process.kill()
    server.start()
    reports = read_spool(tmp_path / "a")
    assert [report["number"] for report in reports] == list(range(1, len(reports) + 1))
    sent = int((tmp_path / "a" / "spool" / "sent").read_text())
    assert 3 <= sent < len(reports)
    messages = await stored_any(server)
    # All that was acknowledged is there; one more may be, whose acknowledgement was lost.
    assert [report for _, report in messages][:sent] == reports[:sent]
    assert len(messages) <= sent + 1


async def stored_any(server: RealNats) -> list[tuple[dict[str, str], dict[str, Any]]]:
    async with client(server) as connection:
        count = (await connection.jetstream().stream_info("MODELRY_WORK")).state.messages
    return await stored(server, count)


async def test_many_threads_report_at_once(server: RealNats, tmp_path: Path) -> None:
    await make_stream(server)
    reporter = Reporter(attempt(tmp_path / "a", server), handle_signals=False)
    threads = [
        threading.Thread(target=lambda: [reporter.send("progress", {"done": os.getpid()}) for _ in range(25)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert await close(reporter)
    assert [report["number"] for _, report in await stored(server, 100)] == list(range(1, 101))
