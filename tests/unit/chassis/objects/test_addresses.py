"""Where the store of a credential may be."""

import pytest

from services.chassis.objects import ForeignRules
from services.chassis.settings import Settings

LOCAL = ["127.0.0.1", "127.8.8.8", "0.0.0.0", "::1", "::", "169.254.169.254", "fe80::1%eth0", "::ffff:127.0.0.1"]
METADATA = ["100.100.100.200", "fd00:ec2::254", "64:ff9b::a9fe:a9fe", "2002:7f00:1::"]


@pytest.mark.parametrize("address", [*LOCAL, *METADATA])
def test_what_only_this_machine_can_ask_is_refused(address: str) -> None:
    assert ForeignRules().refusal("store.example", address, 9000)


@pytest.mark.parametrize("address", ["10.1.2.3", "192.168.1.1", "8.8.8.8", "2001:db8::1"])
def test_stores_of_a_company_and_of_the_world_are_not(address: str) -> None:
    assert ForeignRules(own_ports=(9000,)).refusal("store.example", address, 9000) == ""


@pytest.mark.parametrize(
    ("entry", "port", "allowed"),
    [
        ("127.0.0.1", 9000, True),
        ("127.0.0.1:9000", 9000, True),
        ("127.0.0.1:9000", 9001, False),
        ("127.0.0.0/8", 9000, True),
        ("store.local:9000", 9000, True),
        ("store.local", 9000, True),
        ("other.local", 9000, False),
        ("[::1]:9000", 9000, False),
    ],
)
def test_a_setting_allows_hosts_addresses_and_networks(entry: str, port: int, allowed: bool) -> None:
    assert (ForeignRules((entry,)).refusal("store.local", "127.0.0.1", port) == "") is allowed


def test_our_own_store_is_allowed_and_our_other_ports_are_known() -> None:
    settings = Settings(objects_endpoint="http://127.0.0.1:9000", nats_url="nats://127.0.0.1:4222,nats://b:4223")
    rules = ForeignRules.of_settings(settings, ["http://10.0.0.1:8080"])
    assert rules.refusal("127.0.0.1", "127.0.0.1", 9000) == ""
    assert rules.refusal("127.0.0.1", "127.0.0.1", 9001)
    assert rules.own_ports == (4222, 4223, 8080)
