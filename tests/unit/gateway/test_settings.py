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
