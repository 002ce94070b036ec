"""Credentials and projects: what may be asked, and what may be changed."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.access.domain.credentials import Credential, checked
from services.chassis.errors import Invalid, WrongState

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 24, 8, tzinfo=UTC)


def credential(**changes):
    made = Credential("cred-1", "proj-1", "minio", NOW, NOW, access_key="AK", sealed_secret="sealed", verify_time=NOW)
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "No Name"}, "credential.name"),
        ({"endpoint": "minio:9000"}, "credential.endpoint"),
        ({"endpoint": "ftp://minio"}, "credential.endpoint"),
        ({"endpoint": "http://"}, "credential.endpoint"),
        ({"endpoint": "http://user:pw@minio"}, "credential.endpoint"),
        ({"endpoint": "http://minio?x=1"}, "credential.endpoint"),
        ({"endpoint": "http://minio:99999"}, "credential.endpoint"),
        ({"bucket": "No_Bucket"}, "credential.bucket"),
        ({"bucket": "ab"}, "credential.bucket"),
        ({"access_key": ""}, "credential.access_key"),
        ({"access_key": "A K"}, "credential.access_key"),
        ({"sealed_secret": ""}, "credential.secret_key"),
        ({"metadata": {str(n): "" for n in range(17)}}, "credential.metadata"),
    ],
)
def test_a_credential_that_cannot_be_is_refused_by_field(changes, field):
    with pytest.raises(Invalid) as caught:
        checked(credential(**changes))
    assert caught.value.field == field


def test_the_region_has_a_default():
    assert checked(credential(region="")).region == "us-east-1"


def test_what_opens_the_store_must_be_verified_again():
    assert credential().update({"title": "new"}, "", NOW).verify_time == NOW
    changed = credential().update({"secret_key": "s"}, "sealed again", NOW)
    assert (changed.verify_time, changed.sealed_secret, changed.version) == (None, "sealed again", 2)


def test_the_builtin_credential_is_left_alone():
    builtin = credential(name="builtin")
    for verb in (lambda: builtin.update({"title": "x"}, "", NOW), lambda: builtin.require_own("delete")):
        with pytest.raises(WrongState):
            verb()


@pytest.mark.parametrize(("own", "asked", "bucket"), [("b-1", "", "b-1"), ("b-1", "b-1", "b-1"), ("", "b-2", "b-2")])
def test_the_bucket_of_a_use_is_the_asked_one_or_its_own(own, asked, bucket):
    assert credential(bucket=own).require_bucket(asked) == bucket


@pytest.mark.parametrize(("own", "asked"), [("b-1", "b-2"), ("", "")])
def test_another_bucket_or_none_is_refused(own, asked):
    with pytest.raises(Invalid) as caught:
        credential(bucket=own).require_bucket(asked)
    assert caught.value.field == "bucket"


def test_a_credential_that_is_sent_back_as_it_was_stays_verified():
    verified = credential(endpoint="http://store:9000").note_verified(NOW)
    sent = ("title", "metadata", "endpoint", "region", "bucket", "access_key")
    same = {name: getattr(verified, name) for name in sent}
    assert verified.update(same, "", NOW).verify_time == NOW
    assert verified.update({**same, "access_key": "other"}, "", NOW).verify_time is None
