"""Stores that answer what no store answers: each operation ends soon, with words of ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.chassis.errors import ModelryError, Unavailable
from services.chassis.objects import ObjectStore
from tests.hostile_store import SECRET_WORDS, HostileStore, hostile_store

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]


@pytest.fixture
def hostile() -> Iterator[HostileStore]:
    with hostile_store() as server:
        yield server


@pytest.mark.parametrize("kind", ["missing", "no-key", "text", "deep"])
def test_a_malformed_answer_is_unavailable(hostile: HostileStore, kind: str) -> None:
    with pytest.raises(Unavailable) as caught:
        list(ObjectStore(hostile.access, tries=1).list(kind, "p/"))
    assert caught.value.reason.startswith("STORE_")


def test_pages_without_an_end_end(hostile: HostileStore) -> None:
    with pytest.raises(Unavailable) as caught:
        list(ObjectStore(hostile.access, tries=1).list("endless", "p/"))
    assert caught.value.reason == "STORE_MALFORMED"
    assert hostile.requests < 50


@pytest.mark.parametrize("key", ["/etc/k", "q/k", "p", "../p/k"])
def test_a_key_that_was_not_asked_for_is_malformed(hostile: HostileStore, key: str) -> None:
    hostile.keys = (key,)
    with pytest.raises(Unavailable):
        list(ObjectStore(hostile.access, tries=1).list("keys", "p/"))


def test_no_foreign_word_is_passed_on(hostile: HostileStore) -> None:
    with pytest.raises(ModelryError) as caught:
        ObjectStore(hostile.access, tries=1).list_page("words")
    assert SECRET_WORDS not in f"{caught.value.message} {caught.value.metadata}"


def test_no_redirect_is_followed(hostile: HostileStore) -> None:
    with hostile_store() as inner:
        hostile.target = f"http://127.0.0.1:{inner.server_address[1]}/keys"
        with pytest.raises(ModelryError):
            ObjectStore(hostile.access, tries=1).get_bytes("redirect", "key")
        assert inner.requests == 0
