"""Which fields an update changes, and that every Update of the API has the same rules."""

from __future__ import annotations

from typing import Any

import pytest
from google.api import field_behavior_pb2
from google.protobuf.field_mask_pb2 import FieldMask

from modelry.access.v1 import access_pb2
from modelry.api_methods import methods
from modelry.registry.v1 import registry_pb2
from modelry.training.v1 import training_pb2
from services.chassis.auth import Principal, Role, acting_as
from services.chassis.errors import Invalid
from services.chassis.names import CreateNamed, UpdateLabels
from services.chassis.proto_values import changes_of, creation_of, labels_update_of

pytestmark = pytest.mark.unit

STORED = training_pb2.Job(
    id="ftjob-1",
    name="one",
    title="old",
    metadata={"a": "b"},
    model="tiny",
    datasets=[training_pb2.JobDataset(ref="numbers", version_id="dsv-1")],
    etag="3",
)


async def changes(job: training_pb2.Job, *paths: str) -> dict[str, Any]:
    async def read() -> training_pb2.Job:
        return STORED

    return await changes_of(training_pb2.UpdateJobRequest(job=job, update_mask=FieldMask(paths=paths)), read)


async def test_a_mask_that_is_given_is_the_mask_whatever_the_body_holds() -> None:
    wanted = training_pb2.Job(id="ftjob-1", title="new", metadata={"c": "d"}, model="other")
    assert await changes(wanted, "title") == {"title": "new"}
    assert await changes(training_pb2.Job(id="ftjob-1"), "title", "metadata") == {"title": "", "metadata": {}}


@pytest.mark.parametrize("paths", [(), ("*",)])
async def test_without_a_mask_the_fields_that_are_set_are_changed(paths: tuple[str, ...]) -> None:
    assert await changes(training_pb2.Job(id="ftjob-1", title="new"), *paths) == {"title": "new"}


async def test_id_etag_and_output_only_fields_are_ignored_in_body_and_mask() -> None:
    wanted = training_pb2.Job(id="ftjob-1", etag="9", cause="mine", version=7, title="new")
    assert await changes(wanted) == {"title": "new"}
    assert await changes(wanted, "id", "etag", "cause", "version", "title") == {"title": "new"}


async def test_a_fixed_field_passes_when_it_equals_what_is_stored() -> None:
    own = [training_pb2.JobDataset(ref="numbers")]  # the version that it became is output only
    wanted = training_pb2.Job(id="ftjob-1", name="one", model="tiny", datasets=own, title="new")
    assert await changes(wanted) == {"title": "new"}
    assert await changes(wanted, "name", "model", "datasets", "suffix", "max_cost") == {}


@pytest.mark.parametrize(
    ("wanted", "paths", "field"),
    [
        (training_pb2.Job(id="ftjob-1", name="two"), (), "job.name"),
        (training_pb2.Job(id="ftjob-1"), ("model",), "job.model"),
        (training_pb2.Job(name="one", datasets=[training_pb2.JobDataset(ref="other")]), (), "job.datasets"),
    ],
)
async def test_a_fixed_field_with_another_value_is_refused_by_name(
    wanted: training_pb2.Job, paths: tuple[str, ...], field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        await changes(wanted, *paths)
    assert caught.value.field == field


@pytest.mark.parametrize("path", ["colour", "metadata.a", "Title", ""])
async def test_a_path_that_is_no_field_is_refused(path: str) -> None:
    with pytest.raises(Invalid) as caught:
        await changes(training_pb2.Job(id="ftjob-1", title="new"), path)
    assert caught.value.field == "update_mask"


async def test_a_name_in_place_of_the_id_asks_for_nothing_that_is_stored() -> None:
    async def read() -> training_pb2.Job:
        raise AssertionError("not needed")

    request = training_pb2.UpdateJobRequest(job=training_pb2.Job(name="one", title="new"))
    assert await changes_of(request, read) == {"title": "new"}


async def test_an_update_of_labels_names_the_callers_project_and_the_resource_by_id_or_name() -> None:
    asked: list[str] = []

    async def read(ref: str) -> training_pb2.Job:
        asked.append(ref)
        return STORED

    request = training_pb2.UpdateJobRequest(job=training_pb2.Job(id="ftjob-1", name="one", title="new", etag="3"))
    with acting_as(Principal("proj-1", Role.DEVELOPER)):
        command = await labels_update_of(request, read)
    assert command == UpdateLabels("proj-1", "ftjob-1", "new", None, "3")
    assert asked == ["ftjob-1"]


def test_a_creation_is_in_the_callers_project() -> None:
    model = registry_pb2.Model(name="one", title="One", metadata={"a": "b"})
    with acting_as(Principal("proj-1", Role.DEVELOPER)):
        command = creation_of(registry_pb2.CreateModelRequest(model=model, request_id="r"), "digest")
    assert command == CreateNamed("proj-1", "one", "One", {"a": "b"}, "r", "digest")


async def test_a_write_only_secret_stays_when_it_is_absent() -> None:
    async def read() -> access_pb2.Credential:
        return access_pb2.Credential()

    wanted = access_pb2.Credential(id="cred-1", title="new")
    mask = FieldMask(paths=["title", "secret_key"])
    assert await changes_of(access_pb2.UpdateCredentialRequest(credential=wanted, update_mask=mask), read) == {
        "title": "new"
    }
    wanted.secret_key = "s"
    assert (await changes_of(access_pb2.UpdateCredentialRequest(credential=wanted), read))["secret_key"] == "s"


OPENS_A_STORE = {"endpoint", "region", "bucket", "access_key", "secret_key"}


@pytest.mark.parametrize("method", [m for m in methods() if m.name.startswith("Update")], ids=lambda m: m.name)
def test_a_field_that_an_update_cannot_change_says_so_in_the_protos(method: Any) -> None:
    """Otherwise `changes_of` would hand it on as a change, and the operation would drop it silently."""
    resource = method.request.DESCRIPTOR.fields[0].message_type
    unchangeable = {field_behavior_pb2.OUTPUT_ONLY, field_behavior_pb2.IMMUTABLE}
    changeable = {
        field.name
        for field in resource.fields
        if not unchangeable & set(field.GetOptions().Extensions[field_behavior_pb2.field_behavior])
    }
    expected = {"title", "metadata", "etag"} | (OPENS_A_STORE if resource.name == "Credential" else set())
    assert changeable == expected
