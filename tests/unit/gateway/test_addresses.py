"""Where a caller is, as a socket, gRPC and trusted proxies say it."""

from __future__ import annotations

import pytest

from gateway.addresses import Places, TrustedProxies, address_of_grpc, address_of_socket
from gateway.keys import KeyRing
from services.chassis.errors import Denied, Invalid, OverLimit, Unavailable

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.1:5000", "10.0.0.1"),
        ("ipv6:%5B2001:db8::1%5D:5000", "2001:db8::1"),
        ("ipv6:[2001:db8::1]:5000", "2001:db8::1"),
        ("ipv6:%5B2001:0DB8:0::0001%5D:5000", "2001:db8::1"),
        ("ipv6:%5B::ffff:10.0.0.1%5D:5000", "10.0.0.1"),
        ("ipv6:%5Bfe80::1%25eth0%5D:5000", "fe80::1"),
        ("unix:/run/gateway", "127.0.0.1"),
    ],
)
def test_a_peer_of_grpc_is_read(peer: str, address: str) -> None:
    assert address_of_grpc(peer) == address


@pytest.mark.parametrize(
    ("peername", "address"),
    [
        (("10.0.0.1", 5000), "10.0.0.1"),
        (("2001:db8::1", 5000, 0, 0), "2001:db8::1"),
        (("::ffff:10.0.0.1", 5000, 0, 0), "10.0.0.1"),
        (("fe80::1%eth0", 5000, 0, 2), "fe80::1"),
        ("", "127.0.0.1"),
        (None, "127.0.0.1"),
    ],
)
def test_a_peer_of_a_socket_is_read(peername: object, address: str) -> None:
    assert address_of_socket(peername) == address


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # whoever is no proxy may say what it likes
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["192.0.2.7, 198.51.100.1"], "198.51.100.1"),  # what is left of it, the caller wrote itself
        ("10.0.0.1", ["junk, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1", "10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.3,10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("2001:db8:1::5", ["198.51.100.1"], "198.51.100.1"),
    ],
)
def test_a_trusted_proxy_names_its_caller(peer: str, forwarded: list[str], address: str) -> None:
    assert TrustedProxies("10.0.0.0/8, 2001:db8:1::/48").client_of(peer, forwarded) == address


@pytest.mark.parametrize("forwarded", ["junk", "198.51.100.1, ", "unknown", "_hidden"])
def test_a_trusted_proxy_that_names_nobody_is_refused(forwarded: str) -> None:
    with pytest.raises(Invalid):
        TrustedProxies("::ffff:10.0.0.0/104").client_of("10.0.0.1", [forwarded])


@pytest.mark.parametrize(
    ("listed", "address", "allowed"),
    [
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("::ffff:10.0.0.0/104", "10.1.2.3", True),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.1", "10.0.0.2", False),
        ("2001:db8::/32", "2001:db8::1", True),
        ("2001:db8::/32", "10.0.0.1", False),
    ],
)
def test_a_keys_list_is_of_addresses_in_their_one_spelling(listed: str, address: str, allowed: bool) -> None:
    keys = KeyRing()
    digest = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"  # of `secret`
    keys.apply(digest, {"key_id": "k", "role": "VIEWER", "state": "ACTIVE", "version": 1, "addresses": [listed]})
    if allowed:
        assert keys.authenticate("secret", address).key_id == "k"
        return
    with pytest.raises(Denied):
        keys.authenticate("secret", address)


def test_places_are_counted_by_address_and_in_all() -> None:
    places = Places(2, 2)
    for address in ("2001:db8::1", "2001:db8::2", "10.0.0.1", "10.0.0.1"):
        places.take(address)
    for address in ("2001:db8::3", "10.0.0.1"):  # a network of 64 bits is one caller's
        with pytest.raises(OverLimit):
            places.take(address)
    places.take("2001:db8:0:1::1")
    places.give("10.0.0.1")
    places.take("10.0.0.1")
    places.open()
    places.open()
    with pytest.raises(Unavailable):
        places.open()
