"""Traces across processes without a collector, and what a log line shows and hides."""

import json
import logging

import pytest

from services.chassis import telemetry

pytestmark = pytest.mark.unit


def line(message: str, *args: object, **extra: object) -> str:
    record = logging.makeLogRecord({"name": "x", "levelname": "INFO", "msg": message, "args": args, **extra})
    return telemetry.JsonFormatter("training").format(record)


@pytest.mark.parametrize(
    "secret",
    [
        "mk-abcdefghijklmnop_-123",
        "Bearer sometokenvalue.abc-def",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
        "whsec_abcdefghijkl",
        "secret_key='hunter2hunter2'",
        "nats password: hunter2hunter2",
    ],
)
def test_a_secret_is_masked_wherever_it_stands(secret):
    shown = line("login with %s failed", secret)
    assert "***" in shown
    for part in secret.replace("'", " ").replace(":", " ").replace("=", " ").split()[-1].split("."):
        assert part not in shown.replace("***", "")
    assert json.loads(shown)["level"] == "INFO"


def test_a_secret_in_a_traceback_is_masked():
    try:
        raise ValueError("Authorization: Bearer abcdefghijk")
    except ValueError as error:
        shown = line("failed", exc_info=(ValueError, error, error.__traceback__))
    assert "abcdefghijk" not in shown
    assert "ValueError" in json.loads(shown)["exception"]


def test_a_line_carries_trace_request_and_job():
    with telemetry.span("work", headers={}), telemetry.job_context("ftjob-1"):
        shown = json.loads(line("hello"))
        assert shown["trace_id"] == telemetry.trace_id()
        assert len(shown["trace_id"]) == 32
    assert shown["job_id"] == "ftjob-1"
    assert shown["service"] == "training"


def test_a_trace_goes_on_in_another_process():
    headers: dict[str, str] = {}
    with telemetry.span("first", headers={}):
        here = telemetry.trace_id()
        telemetry.inject(headers)
    assert telemetry.trace_id() == ""
    with telemetry.span("second", headers=headers):
        assert telemetry.trace_id() == here


def test_without_a_parent_a_new_trace_begins():
    seen = set()
    for _ in range(3):
        with telemetry.span("first", headers={"traceparent": "nonsense"}):
            seen.add(telemetry.trace_id())
    assert len(seen) == 3
    assert "" not in seen
