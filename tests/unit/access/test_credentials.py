"""Credentials and projects: what may be asked, and what may be changed."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from modelry.access.v1 import access_pb2
from services.access.domain.credentials import Credential, checked
from services.access.domain.naming import check_metadata
from services.access.domain.projects import Project
from services.access.service.messages import changes_of
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


def test_a_name_is_never_changed():
    with pytest.raises(Invalid) as caught:
        credential().update({"name": "other"}, "", NOW)
    assert caught.value.field == "credential.name"


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


def test_metadata_names_the_pair_that_is_too_long():
    with pytest.raises(Invalid) as caught:
        check_metadata({"a": "x" * 513}, "m")
    assert caught.value.field == "m[a]"


def test_a_project_changes_title_and_metadata_only():
    project = Project.made("proj-1", "one", "", {}, NOW)
    changed = project.update({"title": "Eins", "metadata": {"a": "b"}}, NOW)
    assert (changed.title, changed.metadata, changed.version) == ("Eins", {"a": "b"}, 2)
    with pytest.raises(Invalid) as caught:
        project.update({"name": "two"}, NOW)
    assert caught.value.field == "project.name"


def test_changes_are_the_masks_fields_or_what_is_not_empty():
    message = access_pb2.Project(id="proj-1", title="t", etag="3", metadata={"a": "b"})
    assert changes_of(message, FieldMask(), "project") == {"title": "t", "metadata": {"a": "b"}}
    assert changes_of(message, FieldMask(paths=["metadata", "id", "create_time"]), "project") == {
        "metadata": {"a": "b"}
    }
    assert changes_of(access_pb2.Project(), FieldMask(paths=["title"]), "project") == {"title": ""}
    with pytest.raises(Invalid) as caught:
        changes_of(message, FieldMask(paths=["colour"]), "project")
    assert caught.value.field == "update_mask"
