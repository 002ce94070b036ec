"""Every text of every public method is bounded at both doors, whoever answers the method. Generated from the protos."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from modelry.api_methods import Method, methods
from modelry.client import translate
from modelry.codec import decode
from tests.stack import Stack
from tests.texts import Text, as_http, texts

pytestmark = pytest.mark.contract

SECONDS = 30.0


def over_http(stack: Stack, method: Method, text: Text, value: str) -> tuple[int, dict[str, str]]:
    """The status of a call with this text, and the fields that were refused with their words."""
    path, body = as_http(method, text.fields(value))
    headers = {"Authorization": f"Bearer {stack.admin_key}", "Content-Type": "application/json"}
    request = urllib.request.Request(stack.http + path, body, headers, method=method.verb)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return answer.status, {}
    except urllib.error.HTTPError as error:
        details = json.load(error)["error"]["details"]
        return error.code, {one["field"]: one["message"] for one in details.get("field_violations", ())}


def over_grpc(door: grpc.Channel, key: str, method: Method, text: Text, value: str) -> tuple[str, dict[str, str]]:
    """The same of a call over gRPC."""
    request: Any = decode(text.fields(value), method.request())
    call: Any = door.stream_stream(method.path, request_serializer=method.request.SerializeToString)
    try:
        next(call(iter((request,)), metadata=(("authorization", f"Bearer {key}"),), timeout=SECONDS))
    except grpc.RpcError as error:
        refused = translate(error)
        return refused.code, dict(refused.fields)
    return "OK", {}


@pytest.fixture(scope="module")
def door(stack: Stack) -> Iterator[grpc.Channel]:
    """A connection to the gRPC door."""
    with grpc.insecure_channel(stack.grpc) as channel:
        yield channel


@pytest.mark.parametrize("method", methods(), ids=lambda m: m.name)
def test_a_text_that_is_too_long_or_has_a_nul_is_refused_by_name(
    method: Method, stack: Stack, door: grpc.Channel
) -> None:
    for text in texts(method.request.DESCRIPTOR):
        for value, words in (("x" * (text.longest + 1), f"may have {text.longest:,}"), ("x\0y", "NUL")):
            for code, refused in (
                over_http(stack, method, text, value),
                over_grpc(door, stack.admin_key, method, text, value),
            ):
                assert code in (400, "INVALID_ARGUMENT"), (text.path, code, refused)
                assert words in refused.get(text.path, ""), (text.path, refused)
                assert value not in refused[text.path], "it may be a secret"


@pytest.mark.parametrize("method", methods(), ids=lambda m: m.name)
def test_a_text_of_the_longest_length_is_not_refused_for_it(method: Method, stack: Stack) -> None:
    for text in texts(method.request.DESCRIPTOR):
        status, refused = over_http(stack, method, text, "x" * text.longest)
        assert status < 500, (text.path, status, refused)
        assert "may have" not in refused.get(text.path, ""), refused
