"""Sealed secrets: what opens them and what does not."""

import base64
import os

import pytest

from services.chassis.vault import Sealed, Vault

pytestmark = pytest.mark.unit

KEY, OTHER = b"k" * 32, b"o" * 32


def test_a_secret_comes_back_in_its_context_only() -> None:
    vault = Vault(KEY)
    sealed = vault.seal("hunter2 密码", "cred-1")
    assert "hunter2" not in sealed
    assert vault.open(sealed, "cred-1") == "hunter2 密码"
    with pytest.raises(Sealed):
        vault.open(sealed, "cred-2")


def test_the_same_secret_is_sealed_differently_each_time() -> None:
    vault = Vault(KEY)
    assert vault.seal("a", "x") != vault.seal("a", "x")


def test_an_older_key_opens_what_it_sealed() -> None:
    sealed = Vault(OTHER).seal("a", "x")
    both = Vault(KEY, [OTHER])
    assert both.open(sealed, "x") == "a"
    with pytest.raises(Sealed, match="not here"):
        Vault(KEY).open(sealed, "x")


@pytest.mark.parametrize("broken", ["", "v1.x", "v2.aaaaaaaa.AAAA", "plain text", "v1.aaaaaaaa.####"])
def test_damage_is_noticed(broken: str) -> None:
    with pytest.raises(Sealed):
        Vault(KEY).open(broken, "x")


def test_every_changed_character_is_noticed() -> None:
    vault = Vault(KEY)
    head, _, body = vault.seal("secret", "x").rpartition(".")
    raw = base64.urlsafe_b64decode(body)
    for place in range(len(raw)):
        changed = bytes(byte ^ (place == index) for index, byte in enumerate(raw))
        with pytest.raises(Sealed):
            vault.open(f"{head}.{base64.urlsafe_b64encode(changed).decode()}", "x")


def test_a_key_of_the_wrong_length_or_form_is_refused() -> None:
    with pytest.raises(ValueError, match="32"):
        Vault(b"short")
    with pytest.raises(ValueError, match="base64"):
        Vault.of("not base64!")
    encoded = base64.b64encode(os.urandom(32)).decode()
    assert Vault.of(f"{encoded},{base64.b64encode(KEY).decode()}").open(Vault(KEY).seal("a", "x"), "x") == "a"
