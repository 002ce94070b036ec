"""Where the doors may be open in clear, and which certificates are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.settings import GatewaySettings
from gateway.tls import certificate_of
from services.chassis.errors import ModelryError
from tests.certificates import Authority

pytestmark = pytest.mark.unit

LOOPBACK = ("127.0.0.1:8080", "127.8.0.1:8080", "[::1]:8080", "localhost:8080")
BEYOND = ("0.0.0.0:8080", "[::]:8080", ":8080", "192.0.2.7:8080", "models.example:8080")


def settings(folder: Path, **more: Any) -> GatewaySettings:
    return GatewaySettings(home=folder, **more)


@pytest.mark.parametrize("door", ["http_listen", "grpc_listen"])
@pytest.mark.parametrize("listen", BEYOND)
def test_a_door_beyond_loopback_in_clear_needs_a_setting_that_says_so(listen: str, door: str, tmp_path: Path) -> None:
    with pytest.raises(ModelryError, match=r"MODELRY_GATEWAY_TLS_CERTIFICATE .*MODELRY_GATEWAY_ALLOW_PLAINTEXT=true"):
        certificate_of(settings(tmp_path, **{door: listen}))
    assert certificate_of(settings(tmp_path, **{door: listen}, allow_plaintext=True)) is None


@pytest.mark.parametrize("listen", LOOPBACK)
def test_loopback_may_be_in_clear(listen: str, tmp_path: Path) -> None:
    assert certificate_of(settings(tmp_path, http_listen=listen, grpc_listen=listen)) is None


@pytest.mark.parametrize("given", ["tls_certificate", "tls_key"])
def test_half_a_certificate_is_refused(given: str, tmp_path: Path) -> None:
    with pytest.raises(ModelryError, match="belong together"):
        certificate_of(settings(tmp_path, **{given: "door.pem"}))


@pytest.mark.parametrize("broken", ["no file", "no certificate", "another key"])
def test_a_certificate_that_cannot_be_used_is_refused_by_its_name(broken: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    chain, key, _ = authority.issue()
    if broken != "no file":
        (tmp_path / "door.pem").write_bytes(b"nothing" if broken == "no certificate" else chain)
    (tmp_path / "door.key").write_bytes(authority.issue()[1] if broken == "another key" else key)
    with pytest.raises(ModelryError, match=rf"{tmp_path}/door\.pem and .*door\.key are no certificate with its key"):
        certificate_of(settings(tmp_path, tls_certificate="door.pem", tls_key="door.key"))
