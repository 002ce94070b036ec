"""A whole installation whose doors have a certificate: what starts it, asks it and calls it speaks TLS."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from modelry.client import Client
from modelry.connection import NotReachable
from tests.certificates import Authority
from tests.stack import Stack, free_port, modelry

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

SOON = 30.0
SETTINGS = """
[gateway]
tls_certificate = "secrets/door.pem"
tls_key = "secrets/door.key"
tls_check_seconds = 0.1
"""


@dataclass
class House:
    """The installation, and who signs its certificates."""

    stack: Stack
    authority: Authority

    def certify(self) -> int:
        """Give it a new certificate. Returns: its serial number."""
        secrets = self.stack.home / "secrets"
        secrets.mkdir(exist_ok=True, mode=0o700)
        chain, key, serial = self.authority.issue()
        for name, content in (("door.pem", chain), ("door.key", key)):
            (secrets / name).touch(0o600)
            (secrets / name).write_bytes(content)
        return serial

    def serials(self) -> set[int]:
        """What new connections see at both doors."""
        return {self._serial(urlsplit(self.stack.http).netloc, "http/1.1"), self._serial(self.stack.grpc, "h2")}

    def _serial(self, address: str, protocol: str) -> int:
        trust = ssl.create_default_context(cafile=str(self.authority.file))
        trust.set_alpn_protocols([protocol])
        host, _, port = address.partition(":")
        plain = socket.create_connection((host, int(port)), timeout=10)
        with trust.wrap_socket(plain, server_hostname=host) as door:
            shown = door.getpeercert() or {}
        return int(str(shown["serialNumber"]), 16)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    home = tmp_path_factory.mktemp("home")
    (home / "modelry.toml").write_text(SETTINGS, "utf-8")
    made = House(Stack(home), Authority(tmp_path_factory.mktemp("authority")))
    made.certify()
    made.stack.up()
    yield made
    made.stack.down()


def test_status_says_that_a_house_with_a_certificate_is_ready(house: House) -> None:
    done = modelry("status", "--json", home=house.stack.home)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["addresses"]["http"].startswith("https://")


def test_the_command_line_speaks_tls(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELRY_CA_FILE", str(house.authority.file))
    listed = modelry("models", "list", "--json", home=house.stack.home)
    assert listed.returncode == 0, listed.stderr
    asked = modelry("chat", "no-such-model", "?", home=house.stack.home)
    assert "no-such-model" in asked.stderr and "nothing answers" not in asked.stderr  # the server's own words


def test_the_client_speaks_tls_from_anywhere(house: House) -> None:
    authorities = str(house.authority.file)
    with Client(url=house.stack.http, key=house.stack.admin_key, ca_file=authorities) as client:
        assert client.get_server_info().http_address == house.stack.http
    with pytest.raises(NotReachable, match="CERTIFICATE_VERIFY_FAILED"):
        Client(url=house.stack.http, key=house.stack.admin_key)


def test_who_speaks_no_tls_is_let_go_without_an_answer_or_a_traceback(house: House) -> None:
    for address in (urlsplit(house.stack.http).netloc, house.stack.grpc):
        host, _, port = address.partition(":")
        with socket.create_connection((host, int(port)), timeout=10) as plain:
            plain.sendall(b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"HTTP" not in plain.recv(1 << 16)
    assert "Traceback" not in (house.stack.home / "logs" / "gateway.log").read_text("utf-8")


def test_a_new_certificate_is_shown_without_a_restart(house: House) -> None:
    serial, before = house.certify(), house.stack.state["processes"]["gateway"]["identity"]
    deadline = time.monotonic() + SOON
    while house.serials() != {serial}:
        assert time.monotonic() < deadline, "the doors show the certificate of before"
    assert house.stack.state["processes"]["gateway"]["identity"] == before


def test_up_beyond_loopback_in_clear_is_refused_with_the_name_of_the_setting(tmp_path: Path) -> None:
    ports = [word for flag in ("--port", "--grpc-port", "--nats-port") for word in (flag, str(free_port()))]
    done = modelry("up", "--detach", "--host", "0.0.0.0", *ports, home=tmp_path)
    modelry("down", home=tmp_path)
    assert done.returncode == 1
    assert "MODELRY_GATEWAY_ALLOW_PLAINTEXT=true" in done.stdout + done.stderr
