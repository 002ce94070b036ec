"""Addresses to listen at, in one spelling."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.settings import GatewaySettings
from services.chassis.listening import join_address, plain_host, reached_host, split_address
from services.chassis.settings import Settings

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [
        ("127.0.0.1:80", "127.0.0.1", 80),
        ("[::1]:0", "::1", 0),
        ("[::]:8080", "::", 8080),
        ("localhost:1", "localhost", 1),
        (":80", "", 80),
    ],
)
def test_an_address_is_split_and_joined(listen: str, host: str, port: int) -> None:
    assert split_address(listen) == (host, port)
    assert join_address(host, port) == listen


@pytest.mark.parametrize(
    "listen", ["::1:8080", "::", "8080", "[::1]", "127.0.0.1", "127.0.0.1:http", "[::1]:70000", "[1:2]:80"]
)
@pytest.mark.parametrize("setting", ["listen", "http_listen", "grpc_listen"])
def test_what_is_no_address_is_refused_at_every_door(listen: str, setting: str) -> None:
    with pytest.raises(ValidationError, match="is no "):
        (GatewaySettings if setting != "listen" else Settings)(**{setting: listen})


def test_an_ipv6_address_without_brackets_is_shown_with_them() -> None:
    with pytest.raises(ValueError, match=r"in brackets, \[::1\]:8080"):
        split_address("::1:8080")


@pytest.mark.parametrize(
    ("text", "host", "reached"),
    [
        ("::1", "::1", "::1"),
        ("[::1]", "::1", "::1"),
        ("::", "::", "::1"),
        ("[::]", "::", "::1"),
        ("0:0:0:0:0:0:0:1", "::1", "::1"),
        ("0.0.0.0", "0.0.0.0", "127.0.0.1"),
        ("localhost", "localhost", "localhost"),
        ("gpu-1.example", "gpu-1.example", "gpu-1.example"),
    ],
)
def test_a_host_may_have_brackets_or_not(text: str, host: str, reached: str) -> None:
    assert plain_host(text) == host
    assert reached_host(host) == reached


@pytest.mark.parametrize("text", ["[::1", "::1]", "[localhost]", "127.0.0.1:8080", "[::1]:8080", "http://x", ""])
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no host"):
        plain_host(text)
