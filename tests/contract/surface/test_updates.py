"""What was read may be sent back to every Update, and only what may change changes. Generated from the protos."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from google.api import field_behavior_pb2
from google.protobuf.field_mask_pb2 import FieldMask

from modelry.api_methods import Method, methods
from modelry.client import ModelryError
from modelry.codec import encode
from tests.stack import Journey, Stack

pytestmark = pytest.mark.contract

COUNTED = {"version", "etag", "update_time", "cost", "progress"}
"""What every update counts up, and what grows by itself."""


def updates() -> list[Method]:
    """Every Update method."""
    return [method for method in methods() if method.name.startswith("Update")]


def noun_of(method: Method) -> str:
    """The name of the resource's field in its requests."""
    return str(method.request.DESCRIPTOR.fields[0].name)


def read(stack: Stack, journey: Journey, method: Method) -> Any:
    """The journey's resource of a kind, as the Get method answers it."""
    noun = noun_of(method)
    ref = {"project": "proj-00000000000000000000000000", **journey.ids}[noun]
    return getattr(stack.client, f"get_{noun}")(**{noun: ref})


def settled(message: Any) -> Any:
    """A resource without what an update counts up."""
    copy = type(message)()
    copy.CopyFrom(message)
    for name in COUNTED & set(message.DESCRIPTOR.fields_by_name):
        copy.ClearField(name)
    return copy


def behaviors(field: Any) -> set[int]:
    """What the protos say of a field."""
    return set(field.GetOptions().Extensions[field_behavior_pb2.field_behavior])


def patch(
    stack: Stack, method: Method, ref: str, body: dict[str, Any], query: str = "", **further: str
) -> tuple[int, dict[str, Any]]:
    """The status and body of the update over HTTP."""
    path = method.template.replace("{" + noun_of(method) + ".id}", ref) + query
    headers = {"Authorization": f"Bearer {stack.admin_key}", "Content-Type": "application/json", **further}
    request = urllib.request.Request(stack.http + path, json.dumps(body).encode(), headers, method="PATCH")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize("method", updates(), ids=lambda m: m.name)
def test_what_was_read_may_be_sent_back(method: Method, stack: Stack, journey: Journey) -> None:
    noun = noun_of(method)
    for masked in (False, True):
        before = read(stack, journey, method)
        fields: dict[str, Any] = {noun: before}
        if masked:
            fields["update_mask"] = FieldMask(paths=[field.name for field in before.DESCRIPTOR.fields])
        after = stack.client.call(method, fields)
        assert settled(after) == settled(before) == settled(read(stack, journey, method))


@pytest.mark.parametrize("method", updates(), ids=lambda m: m.name)
def test_what_was_read_over_http_may_be_sent_back(method: Method, stack: Stack, journey: Journey) -> None:
    before = read(stack, journey, method)
    status, answer = patch(stack, method, before.id, encode(before))
    assert status == 200, answer
    assert settled(read(stack, journey, method)) == settled(before)


@pytest.mark.parametrize("method", updates(), ids=lambda m: m.name)
def test_a_given_mask_is_the_mask_at_both_doors(method: Method, stack: Stack, journey: Journey) -> None:
    noun, before = noun_of(method), read(stack, journey, method)
    other = {"title": "another", "metadata": {"mask": "test"}}
    status, answer = patch(stack, method, before.id, other, "?update_mask=metadata")
    assert (status, answer["title"], answer["metadata"]) == (200, before.title, other["metadata"])
    request = {noun: {"id": before.id, **other, "metadata": {}}, "update_mask": FieldMask(paths=["title"])}
    after = stack.client.call(method, request)
    assert (after.title, dict(after.metadata)) == ("another", other["metadata"])
    status, answer = patch(stack, method, before.id, {"title": before.title, "metadata": dict(before.metadata)})
    assert settled(read(stack, journey, method)) == settled(before), answer


@pytest.mark.parametrize("method", updates(), ids=lambda m: m.name)
def test_a_lost_update_is_refused(method: Method, stack: Stack, journey: Journey) -> None:
    noun, before = noun_of(method), read(stack, journey, method)
    own = {"title": before.title}
    status, answer = patch(stack, method, before.id, own, **{"If-Match": f'"{before.etag}"'})
    assert status == 200 and answer["etag"] != before.etag, answer
    status, answer = patch(stack, method, before.id, own, **{"If-Match": f'"{before.etag}"'})
    assert (status, answer["error"]["reason"]) == (412, "ETAG_MISMATCH")
    assert patch(stack, method, before.id, {**own, "etag": before.etag})[0] == 409
    with pytest.raises(ModelryError) as caught:
        stack.client.call(method, {noun: {"id": before.id, **own, "etag": before.etag}})
    assert (caught.value.code, caught.value.reason) == ("ABORTED", "ETAG_MISMATCH")


@pytest.mark.parametrize("method", updates(), ids=lambda m: m.name)
def test_a_path_that_is_no_field_is_refused(method: Method, stack: Stack, journey: Journey) -> None:
    before = read(stack, journey, method)
    with pytest.raises(ModelryError) as caught:
        stack.client.call(method, {noun_of(method): before, "update_mask": FieldMask(paths=["colour"])})
    assert (caught.value.code, list(caught.value.fields)) == ("INVALID_ARGUMENT", ["update_mask"])
    status, answer = patch(stack, method, before.id, {"colour": "red"})
    assert status == 400, answer


@pytest.mark.parametrize("method", updates(), ids=lambda m: m.name)
def test_a_fixed_field_with_another_value_is_refused_by_name(method: Method, stack: Stack, journey: Journey) -> None:
    noun = noun_of(method)
    fixed = [f for f in method.response.DESCRIPTOR.fields if field_behavior_pb2.IMMUTABLE in behaviors(f)]
    assert "name" in {field.name for field in fixed}
    before = read(stack, journey, method)
    for field in fixed:
        other = type(before)(id=before.id)
        other.MergeFrom(before)
        if field.name in {set_field.name for set_field, _ in before.ListFields()}:
            other.ClearField(field.name)
        elif field.name == "name":
            other.name = "another"
        else:
            continue
        with pytest.raises(ModelryError) as caught:
            stack.client.call(method, {noun: other, "update_mask": FieldMask(paths=[field.name])})
        assert (caught.value.code, list(caught.value.fields)) == ("INVALID_ARGUMENT", [f"{noun}.{field.name}"])
    status, answer = patch(stack, method, before.id, {"name": "another"})
    assert status == 400, answer
    assert f"{noun}.name" in answer["error"]["message"]


@pytest.mark.parametrize("method", updates(), ids=lambda m: m.name)
def test_every_update_tells_that_it_was_updated(method: Method, stack: Stack, journey: Journey) -> None:
    """Evaluations told nothing, deployments nothing when the values were the same."""
    noun = noun_of(method)
    before = read(stack, journey, method)
    known = {event.id for event in _updated(stack, noun, before.id)}
    stack.client.call(method, {noun: {"id": before.id, "title": before.title}})
    for _ in range(50):
        if {event.id for event in _updated(stack, noun, before.id)} - known:
            return
    raise AssertionError(f"no event of {method.name}")


def _updated(stack: Stack, noun: str, ref: str) -> list[Any]:
    found = stack.client.list_events(resource=noun, id=ref, happening="updated", page_size=1000)
    return list(found.events)
