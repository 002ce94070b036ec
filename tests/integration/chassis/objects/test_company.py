"""Stores as companies have them: a private authority, another region, the bucket in the host; and what leads astray."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from services.chassis.errors import Invalid, ModelryError, Unavailable
from services.chassis.objects import ForeignRules, ObjectStore
from tests.certificates import Authority
from tests.hostile_store import HostileStore, hostile_store

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def private(authority: Authority, tmp_path: Path) -> Iterator[HostileStore]:
    """A store whose certificate a private authority signed."""
    certificate, key, _ = authority.issue()
    (tmp_path / "chain.pem").write_bytes(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain.pem")
    with hostile_store(context) as server:
        server.keys = ("k",)
        yield server


@pytest.mark.parametrize("rules", [None, ForeignRules(("127.0.0.1",))], ids=["own", "foreign"])
def test_a_private_authority_is_trusted_where_the_setting_names_it(
    private: HostileStore, authority: Authority, rules: ForeignRules | None
) -> None:
    endpoint = private.access.endpoint.replace("http:", "https:")
    access = replace(private.access, endpoint=endpoint, foreign=rules)
    with pytest.raises(Unavailable) as caught:
        ObjectStore(access, tries=1).list_page("keys")
    assert caught.value.reason == "STORE_CERTIFICATE"
    assert "CN=localhost" in caught.value.message and "CN=authority of a test" in caught.value.message
    trusting = ObjectStore(replace(access, ca_file=str(authority.file)), tries=1)
    assert [info.key for info in trusting.list("keys")] == ["k"]


def test_another_region_is_learned_and_both_are_named(caplog: pytest.LogCaptureFixture) -> None:
    with hostile_store() as server:
        server.keys = ("k",)
        store = ObjectStore(server.access, tries=1)
        assert [info.key for info in store.list("elsewhere")] == ["k"]
        asked = server.requests
        assert [info.key for info in store.list("elsewhere")] == ["k"]
        assert server.requests == asked + 1
    assert "eu-test-7" in caplog.text and "us-east-1" in caplog.text


@pytest.mark.parametrize("foreign", [False, True])
def test_the_bucket_is_in_the_host_where_the_store_wants_it(foreign: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy plays the name server: hosts below the store's are no names of this machine."""
    with hostile_store() as server:
        monkeypatch.setenv("http_proxy", server.access.endpoint)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        rules = ForeignRules() if foreign else None
        store = ObjectStore(replace(server.access, endpoint="http://store.invalid", foreign=rules), tries=1)
        server.keys = ("k",)
        assert [info.key for info in store.list("in-host")] == ["k"]
        assert server.hosts[-1] == "in-host.store.invalid"


def test_an_address_is_judged_again_at_each_connect() -> None:
    """`localhost` stands for a name that was good when the credential was made."""
    with hostile_store() as server:
        endpoint = server.access.endpoint.replace("127.0.0.1", "localhost")
        access = replace(server.access, endpoint=endpoint, foreign=ForeignRules())
        with pytest.raises(Invalid) as caught:
            ObjectStore(access, tries=1).list_page("keys")
        assert (caught.value.reason, server.requests) == ("ENDPOINT_NOT_ALLOWED", 0)


@pytest.mark.parametrize("kind", ["huge"])
def test_an_answer_without_an_end_has_a_bound(kind: str) -> None:
    with hostile_store() as server:
        access = replace(server.access, foreign=ForeignRules(("127.0.0.1",)))
        with pytest.raises(ModelryError) as caught:
            ObjectStore(access, tries=1).list_page(kind)
        assert caught.value.reason == "STORE_MALFORMED"
