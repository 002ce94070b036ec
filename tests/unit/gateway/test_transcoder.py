"""HTTP requests to messages, from the annotations alone."""

from __future__ import annotations

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


@pytest.mark.parametrize("body", [b"{", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"\xff", b"[" * 100_000])
def test_broken_json_is_refused_with_a_word(body: bytes) -> None:
    with pytest.raises(Invalid) as caught:
        parse_json(body)
    assert caught.value.reason == "INVALID_JSON"
