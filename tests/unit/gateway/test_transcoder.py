"""HTTP requests to messages, from the annotations alone."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.transcoder import MethodNotAllowed, build_request, find, parse_json
from modelry.api_methods import Method, methods
from services.chassis.errors import Invalid, NotFound

pytestmark = pytest.mark.unit


def method(name: str) -> Method:
    return next(m for m in methods() if m.name == name)


@pytest.mark.parametrize("wanted", methods(), ids=lambda m: m.name)
def test_every_method_is_found_by_its_own_path(wanted: Method) -> None:
    path = wanted.template
    for part in path.split("/"):
        if part.startswith("{"):
            path = path.replace(part.split(":")[0], "x")
    assert find(wanted.verb, path)[0] is wanted


def test_an_encoded_slash_belongs_to_the_name() -> None:
    found, variables = find("GET", "/api/v1/models/Qwen%2FQwen2.5-0.5B-Instruct")
    assert found.name == "GetModel"
    assert variables == {"model": "Qwen/Qwen2.5-0.5B-Instruct"}


def test_an_unknown_path_and_a_wrong_verb_are_told_apart() -> None:
    with pytest.raises(NotFound):
        find("GET", "/api/v1/nothing")
    with pytest.raises(MethodNotAllowed) as caught:
        find("PUT", "/api/v1/jobs")
    assert caught.value.metadata["allow"] == "GET, POST"


def test_fields_of_the_request_may_stand_beside_those_of_its_body() -> None:
    body = {"dataset_version": None, "object": {"prefix": "a"}, "create_dataset": True, "request_id": "r"}
    body.pop("dataset_version")
    request = build_request(method("CreateDatasetVersion"), {"dataset": "d"}, {}, body, {})
    assert request.create_dataset is True  # type: ignore[attr-defined]
    assert request.request_id == "r"  # type: ignore[attr-defined]
    assert request.dataset_version.object.prefix == "a"  # type: ignore[attr-defined]


def test_the_body_is_the_mask_of_an_update() -> None:
    request = build_request(method("UpdateJob"), {"job.id": "ftjob-1"}, {}, {"title": "t", "etag": "3"}, {})
    assert list(request.update_mask.paths) == ["etag", "title"]  # type: ignore[attr-defined]  # services ignore the etag
    assert request.job.id == "ftjob-1"  # type: ignore[attr-defined]


UPDATES = [m for m in methods() if "update_mask" in m.request.DESCRIPTOR.fields_by_name]


def resource_of(wanted: Method, request: Any) -> Any:
    return getattr(request, wanted.body)


@pytest.mark.parametrize("wanted", UPDATES, ids=lambda m: m.name)
def test_a_mask_that_is_given_is_the_mask_whatever_the_body_holds(wanted: Method) -> None:
    """It was joined with the body's fields: `?update_mask=title` with another body emptied the title."""
    body = {"title": "t", "metadata": {"a": "b"}, "etag": "3"}
    for query, beside in (({"update_mask": ["title"]}, {}), ({}, {"update_mask": "title"})):
        request: Any = build_request(wanted, {f"{wanted.body}.id": "x"}, query, {**body, **beside}, {})
        assert list(request.update_mask.paths) == ["title"]
    every: Any = build_request(wanted, {}, {"update_mask": ["*"]}, body, {})
    assert list(every.update_mask.paths) == ["*"]


def test_a_mask_takes_the_names_that_a_body_takes() -> None:
    query = {"update_mask": ["accessKey,secret_key"]}
    request: Any = build_request(method("UpdateCredential"), {"credential.id": "c"}, query, {}, {})
    assert list(request.update_mask.paths) == ["access_key", "secret_key"]


@pytest.mark.parametrize("wanted", UPDATES, ids=lambda m: m.name)
def test_if_match_is_the_etag_of_every_update(wanted: Method) -> None:
    for header in ('"3"', 'W/"3"', "3"):
        request = build_request(wanted, {}, {}, {"title": "t"}, {"If-Match": header})
        assert resource_of(wanted, request).etag == "3"
    same = build_request(wanted, {}, {}, {"title": "t", "etag": '"3"'}, {"If-Match": '"3"'})
    assert resource_of(wanted, same).etag == "3"
    anything = build_request(wanted, {}, {}, {"title": "t"}, {"If-Match": "*"})
    assert resource_of(wanted, anything).etag == ""


@pytest.mark.parametrize(
    ("name", "body", "header"),
    [
        ("UpdateJob", {"etag": "4"}, '"3"'),
        ("UpdateJob", {}, '"3", "4"'),
        ("DeleteJob", {}, '"3"'),
        ("StopJob", {}, "*"),
    ],
)
def test_an_if_match_that_would_be_ignored_is_refused(name: str, body: dict[str, str], header: str) -> None:
    with pytest.raises(Invalid) as caught:
        build_request(method(name), {}, {}, body, {"If-Match": header})
    assert caught.value.field == "If-Match"


GIVEN_TWICE: list[tuple[str, dict[str, str], dict[str, list[str]], dict[str, Any], dict[str, str], str]] = [
    ("ListJobs", {}, {"page_size": ["1", "2"]}, {}, {}, "page_size"),
    ("ListJobs", {}, {"page_size": ["1"], "pageSize": ["1"]}, {}, {}, "pageSize"),
    ("CreateDeployment", {}, {}, {"accepts_adapters": True, "acceptsAdapters": False}, {}, "acceptsAdapters"),
    ("CreateDataset", {}, {}, {"request_id": "a", "requestId": "b"}, {}, "requestId"),
    ("CreateDataset", {}, {"request_id": ["a"]}, {"request_id": "b"}, {}, "request_id"),
    ("CreateDataset", {}, {"request_id": ["a"]}, {"requestId": "b"}, {}, "request_id"),
    ("CreateDataset", {}, {}, {"request_id": "a"}, {"Idempotency-Key": "b"}, "Idempotency-Key"),
    ("CreateDataset", {}, {"request_id": ["a"]}, {}, {"Idempotency-Key": "b"}, "Idempotency-Key"),
    ("GetJob", {"job": "a"}, {"job": ["b"]}, {}, {}, "job"),
    ("PublishCheckpoint", {"checkpoint": "a"}, {}, {"checkpoint": "b"}, {}, "checkpoint"),
    ("ScaleDeployment", {"deployment": "a"}, {"replicas": ["1"]}, {"replicas": 2}, {}, "replicas"),
    ("UpdateJob", {}, {"update_mask": ["title"]}, {"update_mask": "metadata"}, {}, "update_mask"),
]


@pytest.mark.parametrize(("name", "variables", "query", "body", "headers", "field"), GIVEN_TWICE)
def test_what_is_given_twice_is_refused_by_name(
    name: str, variables: dict[str, str], query: dict[str, list[str]], body: Any, headers: dict[str, str], field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        build_request(method(name), variables, query, body, headers)
    assert caught.value.field == field


def test_the_same_once_more_is_no_contradiction() -> None:
    body, headers = {"request_id": "a"}, {"Idempotency-Key": "a"}
    made: Any = build_request(method("CreateDataset"), {}, {}, body, headers)
    assert made.request_id == "a"
    made = build_request(method("PublishCheckpoint"), {"checkpoint": "a"}, {}, {"checkpoint": "a"}, {})
    assert made.checkpoint == "a"


def test_a_cursor_for_a_stream_that_has_none_is_refused() -> None:
    with pytest.raises(Invalid) as caught:
        build_request(method("ReadJobLogs"), {"job": "j"}, {}, {}, {"Last-Event-ID": "7"})
    assert caught.value.field == "Last-Event-ID"


def test_a_reconnect_goes_on_where_it_was_whatever_its_url_says() -> None:
    """A browser repeats the URL that it began with and adds the header."""
    headers = {"Last-Event-ID": "7"}
    watched: Any = build_request(method("WatchJob"), {"job": "j"}, {"after_version": ["3"]}, {}, headers)
    assert watched.after_version == 7


def test_headers_fill_request_id_and_cursor() -> None:
    made = build_request(method("CreateModel"), {}, {}, {"name": "m"}, {"Idempotency-Key": "k"})
    assert made.request_id == "k"  # type: ignore[attr-defined]
    published = build_request(method("PublishCheckpoint"), {"checkpoint": "c"}, {}, {}, {"Idempotency-Key": "k"})
    assert published.request_id == "k"  # type: ignore[attr-defined]
    watched = build_request(method("WatchJob"), {"job": "j"}, {}, {}, {"Last-Event-ID": "7"})
    assert watched.after_version == 7  # type: ignore[attr-defined]
    with pytest.raises(Invalid):
        build_request(method("WatchJob"), {"job": "j"}, {}, {}, {"Last-Event-ID": "x"})


@pytest.mark.parametrize("wanted", [m for m in methods() if m.creates], ids=lambda m: m.name)
def test_a_create_without_a_request_id_gets_one_unless_it_is_the_same_without(wanted: Method) -> None:
    ids = {build_request(wanted, {}, {}, {}, {}).request_id for _ in range(2)}  # type: ignore[attr-defined]
    assert ids == {""} if wanted.repeatable else len(ids - {""}) == 2


@pytest.mark.parametrize(
    ("query", "field"), [({"page_sise": ["1"]}, "page_sise"), ({"page_size": ["many"]}, "page_size")]
)
def test_a_bad_query_parameter_is_named(query: dict[str, list[str]], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        build_request(method("ListJobs"), {}, query, {}, {})
    assert caught.value.field == field


@pytest.mark.parametrize("body", [b"{", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"\xff", b"[" * 100_000, b"1" * 5000])
def test_broken_json_is_refused_with_a_word(body: bytes) -> None:
    with pytest.raises(Invalid) as caught:
        parse_json(body)
    assert caught.value.reason == "INVALID_JSON"
