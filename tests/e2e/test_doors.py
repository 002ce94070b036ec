"""The doors beside HTTP and gRPC: NATS for observers, and two homes at once."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from pathlib import Path

import nats
import psutil
import pytest
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from tests.stack import Stack, modelry

pytestmark = pytest.mark.e2e

SOON = 10


async def test_the_observer_hears_events_in_order_with_cloudevents_headers(stack: Stack) -> None:
    secret = (stack.home / "nats.observer").read_text("utf-8").strip()
    client = await nats.connect(stack.state["addresses"]["nats"], user="observer", password=secret)
    try:
        heard = await client.subscribe("modelry.events.>")
        await client.flush()
        name = f"seen-{uuid.uuid4().hex[:8]}"
        made = stack.client.create_dataset(dataset={"name": name})
        stack.client.update_dataset(dataset={"id": made.id, "title": "seen"}, update_mask="title")
        stack.client.delete_dataset(dataset=made.id)
        messages: list[Msg] = []
        while len(messages) < 3:
            message = await heard.next_msg(timeout=SOON)
            if f".{made.id}." in message.subject:
                messages.append(message)
        assert [m.subject.rsplit(".", 1)[-1] for m in messages] == ["created", "updated", "deleted"]
        for message in messages:
            headers = message.headers or {}
            assert headers["ce-specversion"] == "1.0"
            assert headers["ce-type"].startswith("modelry.dataset.")
            assert headers["ce-subject"] == made.id
            assert json.loads(message.data)["id"]
    finally:
        await client.close()


@pytest.mark.parametrize("login", [{}, {"user": "observer", "password": "wrong"}])
async def test_without_the_secret_nats_refuses(stack: Stack, login: dict[str, str]) -> None:
    with pytest.raises((NatsError, OSError)):
        await nats.connect(
            stack.state["addresses"]["nats"],
            allow_reconnect=False,
            max_reconnect_attempts=0,
            connect_timeout=5,
            **login,
        )


async def test_the_observer_may_not_publish(stack: Stack) -> None:
    secret = (stack.home / "nats.observer").read_text("utf-8").strip()
    refused: asyncio.Queue[Exception] = asyncio.Queue()

    async def note(error: Exception) -> None:
        refused.put_nowait(error)

    client = await nats.connect(stack.state["addresses"]["nats"], user="observer", password=secret, error_cb=note)
    await client.publish("modelry.events.x.job.y.succeeded", b"{}")
    error = await asyncio.wait_for(refused.get(), SOON)
    await client.close()
    assert "permissions violation" in str(error).lower()


def test_two_homes_run_side_by_side_and_down_leaves_nothing(stack: Stack, tmp_path: Path) -> None:
    second = Stack(tmp_path / "second")
    second.home.mkdir()
    second.up()
    try:
        assert second.http != stack.http
        for running in (stack, second):
            assert running.client.get_server_info().http_address == running.http
        status = modelry("status", "--json", home=second.home)
        assert status.returncode == 0, status.stdout
    finally:
        second.down()
    left = [
        p.info["pid"]
        for p in psutil.process_iter(["pid", "cmdline"])
        if str(second.home) in " ".join(p.info["cmdline"] or [])
    ]
    assert left == []
    assert stack.client.get_server_info().http_address == stack.http


def test_the_command_line_says_when_nothing_answers(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "modelry.cli", "jobs", "list", "--home", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 4
    assert "modelry up" in done.stderr
    assert "Traceback" not in done.stderr
