"""Every stream has its headers at once, at both doors, whatever it has to tell. Generated from the protos."""

from __future__ import annotations

import urllib.request
from typing import Any

import grpc
import pytest

from modelry.api_methods import Method, methods
from modelry.cli.naming import arguments
from tests.contract.surface.test_isolation import value_of
from tests.stack import Journey, Stack

pytestmark = pytest.mark.contract

SECONDS = 10
NEWEST = 2**53
"""A cursor above all that a stream has: what a client holds after a restore of an older copy."""
CURSORS = {"after_version", "after_step"}


def streams() -> list[Method]:
    """Every method that streams messages."""
    return [method for method in methods() if method.server_streaming and not method.raw]


def place_of(method: Method, ids: dict[str, str]) -> dict[str, str]:
    """The path variables of a stream of the journey's things."""
    return {name: value_of(method, name, ids) for name in arguments(method)}


@pytest.mark.parametrize("method", streams(), ids=lambda m: m.name)
def test_a_stream_has_its_headers_at_once(method: Method, stack: Stack, journey: Journey) -> None:
    path, fields = method.template, {field.name for field in method.request.DESCRIPTOR.fields}
    for name, value in place_of(method, journey.ids).items():
        path = path.replace("{" + name + "}", value)
    headers = {"Authorization": f"Bearer {stack.admin_key}"}
    if fields & CURSORS:
        headers["Last-Event-ID"] = str(NEWEST)
    path += "?follow=true" if "follow" in fields else ""
    with urllib.request.urlopen(urllib.request.Request(stack.http + path, headers=headers), timeout=SECONDS) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.readline() == b": ok\n"


@pytest.mark.parametrize("method", streams(), ids=lambda m: m.name)
def test_a_stream_has_its_headers_at_once_over_grpc(method: Method, stack: Stack, journey: Journey) -> None:
    request: Any = method.request(**place_of(method, journey.ids))
    for name in CURSORS | {"follow"}:
        if name in request.DESCRIPTOR.fields_by_name:
            setattr(request, name, NEWEST if name in CURSORS else True)
    client = stack.client
    stream = client._stub(method, "unary_stream")(request, metadata=client._metadata, timeout=SECONDS)
    stream.initial_metadata()
    assert stream.is_active() or stream.code() is grpc.StatusCode.OK
    stream.cancel()


@pytest.mark.parametrize("method", [m for m in streams() if m.name.startswith("Watch")], ids=lambda m: m.name)
def test_a_cursor_above_the_version_shows_the_present_state(method: Method, stack: Stack, journey: Journey) -> None:
    if "after_version" not in method.request.DESCRIPTOR.fields_by_name:
        return  # a stream of events, which refuses such a cursor by name
    watch = stack.client.call(method, {**place_of(method, journey.ids), "after_version": NEWEST})
    assert 0 < next(watch).version < NEWEST
