"""Tokens and roles."""

import time

import jwt
import pytest

from services.chassis import auth
from services.chassis.errors import Denied, Unauthenticated

pytestmark = pytest.mark.unit
SECRET = "s" * 32


def principal(role: auth.Role = auth.Role.DEVELOPER, kind: auth.Kind = "user") -> auth.Principal:
    return auth.Principal("proj-1", role, "key-1", kind, "key-1")


@pytest.mark.parametrize("role", list(auth.Role))
@pytest.mark.parametrize("kind", ["user", "service"])
def test_a_token_carries_the_principal(role, kind):
    issuer = auth.TokenIssuer(SECRET)
    assert issuer.verify(issuer.issue(principal(role, kind))) == principal(role, kind)


def test_a_token_that_ran_out_is_refused():
    issuer = auth.TokenIssuer(SECRET)
    with pytest.raises(Unauthenticated):
        issuer.verify(issuer.issue(principal(), seconds=-60))


def test_a_verified_token_is_remembered_to_its_end_and_not_longer(monkeypatch):
    issuer = auth.TokenIssuer(SECRET)
    token = issuer.issue(principal(), seconds=3)
    remembered = issuer.verify(token)
    assert issuer.verify(token) is remembered
    later = time.time() + 10
    monkeypatch.setattr(auth.time, "time", lambda: later)
    assert issuer.verify(token) is not remembered


def test_a_token_of_another_installation_is_refused():
    with pytest.raises(Unauthenticated):
        auth.TokenIssuer(SECRET).verify(auth.TokenIssuer("t" * 32).issue(principal()))


@pytest.mark.parametrize("claims", [{"role": "EMPEROR"}, {"kind": "robot"}, {"aud": "other"}, {"exp": None}])
def test_a_token_with_wrong_claims_is_refused(claims):
    issuer = auth.TokenIssuer(SECRET)
    right = jwt.decode(issuer.issue(principal()), SECRET, algorithms=["HS256"], audience="modelry")
    wrong = {key: value for key, value in {**right, **claims}.items() if value is not None}
    with pytest.raises(Unauthenticated):
        issuer.verify(jwt.encode(wrong, SECRET, algorithm="HS256"))


def test_an_unsigned_token_is_refused():
    claims = {"aud": "modelry", "project": "p", "role": "ADMIN", "kind": "service", "exp": 9_999_999_999}
    with pytest.raises(Unauthenticated):
        auth.TokenIssuer(SECRET).verify(jwt.encode(claims, "", algorithm="none"))


def test_a_short_secret_is_refused():
    with pytest.raises(ValueError, match="32"):
        auth.TokenIssuer("short")


@pytest.mark.parametrize("role", list(auth.Role))
@pytest.mark.parametrize("needed", list(auth.Role))
def test_a_role_may_do_all_that_the_ones_below_may(role, needed):
    if role >= needed:
        principal(role).require(needed)
    else:
        with pytest.raises(Denied) as caught:
            principal(role).require(needed)
        assert caught.value.metadata == {"required_role": needed.name, "role": role.name}


def test_only_a_service_is_a_service():
    principal(kind="service").require_service()
    with pytest.raises(Denied):
        principal(auth.Role.ADMIN).require_service()


def test_current_is_set_for_a_block_only():
    with pytest.raises(Unauthenticated):
        auth.current()
    with auth.acting_as(principal()):
        assert auth.current() == principal()
    assert auth.current_or_none() is None
