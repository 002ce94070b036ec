"""The rules of versions: every state with every transition, publishing by itself, names and references."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from services.chassis.errors import Invalid, WrongState
from services.chassis.locations import StoredFiles
from services.chassis.transitions import Failure, FailureKind, Transition
from services.dataset import domain
from services.dataset.domain import (
    COMPLETE,
    FAIL,
    PUBLISH,
    TRANSITIONS,
    BadRowPolicy,
    DatasetVersion,
    Format,
    Output,
    Reference,
    Source,
    State,
)

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 24, tzinfo=UTC)
OUTPUT = Output(Format.ALPACA, 3, 0, "sha256:x", StoredFiles("b", "p", "{}"), "{}", False, {})
NEXT = {
    (State.IMPORTING, COMPLETE): State.READY,
    (State.IMPORTING, FAIL): State.FAILED,
    (State.READY, PUBLISH): State.PUBLISHED,
}


def version(**fields: Any) -> DatasetVersion:
    return DatasetVersion(
        **{
            "id": "dsv-1",
            "project": "p",
            "dataset_id": "ds-1",
            "dataset_name": "d",
            "number": 1,
            "state": State.IMPORTING,
            "source": Source(bucket="b", prefix="k"),
            "format": Format.FORMAT_UNSPECIFIED,
            "columns": {},
            "bad_row_policy": BadRowPolicy.REJECT,
            "max_bad_rows": 0,
            "draft": False,
            "metadata": {},
            "create_time": NOW,
            **fields,
        }
    )


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("transition", TRANSITIONS, ids=lambda item: item.name)
def test_every_state_with_every_transition(state: State, transition: Transition) -> None:
    before = version(state=state, version=4)
    target = NEXT.get((state, transition))
    if target is None:
        with pytest.raises(WrongState) as caught:
            before.apply(transition, NOW, cause="c")
        assert caught.value.metadata["state"] == state.name
        return
    after = before.apply(transition, NOW, cause="c")
    assert (after.state, after.version, after.cause, after.finish_time) == (target, 5, "c", NOW)


@pytest.mark.parametrize(
    ("draft", "bad", "states"),
    [
        (False, 0, [State.READY, State.PUBLISHED]),
        (True, 0, [State.READY]),
        (False, 2, [State.READY]),
    ],
)
def test_a_version_publishes_itself_unless_a_row_was_refused_or_it_is_a_draft(
    draft: bool, bad: int, states: list[State]
) -> None:
    steps = version(draft=draft).complete(replace(OUTPUT, bad_row_count=bad), NOW)
    assert [step.state for step in steps] == states
    assert [step.version for step in steps] == [2, 3][: len(steps)]
    assert all(step.output is not None and step.bad_row_count == bad for step in steps)


def test_only_published_and_failed_are_terminal() -> None:
    assert {state for state in State if state.ended} == {State.PUBLISHED, State.FAILED}


def test_a_failure_is_kept() -> None:
    failure = Failure("BAD_ROWS", "no", FailureKind.USER)
    assert version().apply(FAIL, NOW, cause="no", failure=failure).failure == failure


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("support", Reference(dataset="support")),
        ("support@3", Reference(dataset="support", number=3)),
        ("support@latest", Reference(dataset="support")),
        ("dsv-7", Reference(version_id="dsv-7")),
    ],
)
def test_references(text: str, expected: Reference) -> None:
    assert Reference.parse(text, "reference") == expected


@pytest.mark.parametrize("text", ["", "@1", "a@", "a@0", "a@x", "a@1@2"])
def test_wrong_references_name_their_field(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        Reference.parse(text, "datasets[0].ref")
    assert caught.value.field == "datasets[0].ref"


@pytest.mark.parametrize(
    ("source", "policy", "most", "field"),
    [
        (Source(), BadRowPolicy.REJECT, 0, "object.prefix"),
        (Source(prefix="/a"), BadRowPolicy.REJECT, 0, "object.prefix"),
        (Source(prefix="a"), BadRowPolicy.REJECT, 1, "max_bad_rows"),
        (Source(prefix="a"), BadRowPolicy.SKIP, 0, "max_bad_rows"),
        (Source(prefix="a"), BadRowPolicy.SKIP, 1_000_001, "max_bad_rows"),
    ],
)
def test_an_import_that_contradicts_itself_names_its_field(
    source: Source, policy: BadRowPolicy, most: int, field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        domain.check_import(source, policy, most, {})
    assert caught.value.field == f"dataset_version.{field}"
