"""The gateway's settings: a wrong one stops the start."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.settings import GatewaySettings

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("origins", ["", "*", "https://a.example", "http://127.0.0.1:5173, app://console"])
def test_origins_of_pages_are_taken(origins: str) -> None:
    assert GatewaySettings(cors_origins=origins).cors_origins == origins


@pytest.mark.parametrize("origins", ["a.example", "https://a.example/", "https://a.example,", "https://a b", "null"])
def test_what_is_no_origin_is_refused(origins: str) -> None:
    """It would equal no page's origin, and nobody would know why."""
    with pytest.raises(ValidationError):
        GatewaySettings(cors_origins=origins)


@pytest.mark.parametrize("proxies", ["", "10.0.0.1", "10.0.0.0/8, 2001:db8::/32"])
def test_trusted_proxies_are_taken(proxies: str) -> None:
    assert GatewaySettings(trusted_proxies=proxies).trusted_proxies == proxies


@pytest.mark.parametrize("proxies", ["proxy.example", "10.0.0.0/40", "10.0.0.1; 10.0.0.2"])
def test_what_is_no_network_is_refused(proxies: str) -> None:
    with pytest.raises(ValidationError):
        GatewaySettings(trusted_proxies=proxies)
