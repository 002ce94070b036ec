"""Events: their subject, body and headers, and how a broken one is refused."""

import json
from datetime import UTC, datetime

import pytest

from services.chassis.events import Event, Malformed, Record, rfc3339, token

pytestmark = pytest.mark.unit


def test_a_subject_has_project_resource_id_and_happening() -> None:
    event = Event("proj-1", "datasetVersion", "dsv-7", "published", "PUBLISHED")
    assert event.subject == "modelry.events.proj-1.datasetVersion.dsv-7.published"
    assert event.ordering_key == "datasetVersion/dsv-7"


@pytest.mark.parametrize(
    ("text", "written"), [("v1.2", "v1%2E2"), ("a b", "a%20b"), ("a>*", "a%3E%2A"), ("50%", "50%25")]
)
def test_what_has_a_meaning_in_subjects_is_escaped(text: str, written: str) -> None:
    assert token(text) == written


def test_an_empty_token_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        _ = Event("", "job", "ftjob-1", "queued", "QUEUED").subject


def test_an_event_is_read_back_as_it_was() -> None:
    event = Event("p", "job", "j", "done", "DONE", "RUNNING", 3, "原因", {"model": "mdl-1"}, terminal=True)
    assert Event.parse(event.body().encode()) == event
    assert json.loads(event.body())["version"] == 3
    assert "原因" in event.body()


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"id": 1}', b"\xff", b"null"])
def test_what_is_no_event_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        Event.parse(data)


def test_a_time_is_shown_as_rfc_3339() -> None:
    assert rfc3339(datetime(2026, 11, 24, 8, 0, 1, 500000, tzinfo=UTC)) == "2026-11-24T08:00:01.500000Z"


def test_a_record_of_a_key_has_the_keys_lane() -> None:
    record = Record("modelry_keys", "key-1", 2, None)
    assert record.ordering_key == "modelry_keys/key-1"
    assert json.loads(record.body()) == {"key": "key-1", "version": 2, "value": None}
