"""API keys: what may be asked, every state with every transition, and what gateways are told."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from services.access.domain import keys
from services.access.domain.keys import CreateKey, KeyRole, KeyState, new_secret
from services.access.operations.keys import records_of
from services.chassis.errors import Denied, Invalid, WrongState

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 24, 8, tzinfo=UTC)
OUTCOMES = {
    ("rotate", KeyState.ACTIVE): KeyState.ACTIVE,
    ("revoke", KeyState.ACTIVE): KeyState.REVOKED,
    ("revoke", KeyState.EXPIRED): KeyState.REVOKED,
    ("expire", KeyState.ACTIVE): KeyState.EXPIRED,
}


def key(**changes):
    made = CreateKey("help").make("key-1", "proj-1", "mk-" + "a" * 43, NOW)
    return replace(made, **changes)


@pytest.mark.parametrize("state", list(KeyState))
@pytest.mark.parametrize("transition", [keys.ROTATE, keys.REVOKE, keys.EXPIRE], ids=lambda t: t.name)
def test_every_state_with_every_transition(state, transition):
    before = key(state=state)
    wanted = OUTCOMES.get((transition.name, state))
    if wanted is None:
        with pytest.raises(WrongState) as caught:
            before.apply(transition, NOW)
        assert caught.value.metadata["state"] == state.name
    else:
        after = before.apply(transition, NOW)
        assert (after.state, after.version) == (wanted, before.version + 1)


def test_a_new_key_keeps_the_hash_and_not_the_secret():
    secret = new_secret()
    made = CreateKey("help").make("key-1", "proj-1", secret, NOW)
    assert secret.startswith("mk-")
    assert len(secret) == 46
    assert made.secrets == (keys.Secret(sha256(secret.encode()).hexdigest()),)
    assert secret not in repr(made)
    assert secret.startswith(made.display.removesuffix("…"))
    assert (made.role, made.models, made.addresses) == (KeyRole.INFERENCE, ("*",), ())


def test_secrets_are_never_the_same():
    assert len({new_secret() for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        (CreateKey(""), "api_key.name"),
        (CreateKey("Big"), "api_key.name"),
        (CreateKey("-a"), "api_key.name"),
        (CreateKey("a" * 64), "api_key.name"),
        (CreateKey("a", models=("ok", "")), "api_key.models[1]"),
        (CreateKey("a", models=(" a",)), "api_key.models[0]"),
        (CreateKey("a", addresses=("10.0.0.0/8", "10.0.0.0/33")), "api_key.addresses[1]"),
        (CreateKey("a", addresses=("example.com",)), "api_key.addresses[0]"),
        (CreateKey("a", expire_time=NOW), "api_key.expire_time"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_by_field(wish, field):
    with pytest.raises(Invalid) as caught:
        wish.make("key-1", "proj-1", "mk-x", NOW)
    assert caught.value.field == field


def test_addresses_become_networks():
    made = CreateKey("a", addresses=("10.1.2.3/8", "::1", "192.0.2.7")).make("k", "p", "mk-x", NOW)
    assert made.addresses == ("10.0.0.0/8", "::1/128", "192.0.2.7/32")


def test_a_rotated_key_has_both_secrets_until_the_overlap_is_over():
    rotated = key().rotate("mk-" + "b" * 43, timedelta(hours=1), NOW)
    new, old = (record.value for record in records_of(rotated, "default"))
    assert new["expire_time"] is None
    assert old["expire_time"] == (NOW + timedelta(hours=1)).timestamp()
    assert new["state"] == old["state"] == "ACTIVE"
    assert new["version"] == 2


def test_an_older_secret_is_never_prolonged_by_a_later_rotation():
    first = key().rotate("mk-" + "b" * 43, timedelta(0), NOW)
    second = first.rotate("mk-" + "c" * 43, timedelta(days=7), NOW + timedelta(seconds=5))
    ends = [secret.until for secret in second.secrets]
    assert ends == [None, NOW + timedelta(days=7, seconds=5), NOW]


@pytest.mark.parametrize("overlap", [timedelta(seconds=-1), timedelta(days=7, seconds=1)])
def test_an_overlap_out_of_range_is_refused(overlap):
    with pytest.raises(Invalid) as caught:
        key().rotate("mk-x", overlap, NOW)
    assert caught.value.field == "overlap"


def test_a_secret_ends_with_its_key():
    ending = key(expire_time=NOW + timedelta(minutes=1)).rotate("mk-" + "b" * 43, timedelta(hours=1), NOW)
    assert {r.value["expire_time"] for r in records_of(ending, "")} == {(NOW + timedelta(minutes=1)).timestamp()}


def test_a_revoked_key_is_a_record_for_each_secret_with_a_higher_version():
    rotated = key().rotate("mk-" + "b" * 43, timedelta(hours=1), NOW)
    records = records_of(rotated.apply(keys.REVOKE, NOW), "default")
    assert [record.value["state"] for record in records] == ["REVOKED", "REVOKED"]
    assert {record.version for record in records} == {rotated.version + 1}
    assert {record.key for record in records} == {secret.hash for secret in rotated.secrets}


def test_an_admin_key_belongs_to_no_project():
    (record,) = records_of(key(role=KeyRole.ADMIN), "default")
    assert (record.value["project"], record.value["project_name"]) == ("", "")


def test_a_key_whose_time_is_over_shows_it_before_anybody_noted_it():
    ending = key(expire_time=NOW + timedelta(minutes=1))
    assert ending.shown_state(NOW) is KeyState.ACTIVE
    assert ending.shown_state(NOW + timedelta(minutes=1)) is KeyState.EXPIRED


@pytest.mark.parametrize("role", list(KeyRole))
@pytest.mark.parametrize("caller", list(KeyRole))
def test_nobody_reaches_a_key_above_himself(role, caller):
    if role <= caller:
        key(role=role).require_reach(caller)
    else:
        with pytest.raises(Denied):
            key(role=role).require_reach(caller)


@pytest.mark.parametrize("secret", ["", "mk-short", "sk-" + "a" * 40, "mk-" + "a" * 40 + " b", "mk-" + "ä" * 40])
def test_a_given_secret_that_is_none_is_refused(secret):
    with pytest.raises(Invalid):
        keys.check_secret(secret)
