"""The generated pages: every setting has a meaning, reasons and events are found in the code, stale pages are named."""

import re
from pathlib import Path

import pytest

from deploy.local.effective import settings_class
from deploy.tooling import error_reasons, event_list, reference
from deploy.tooling.sources import ROOT, STAGES
from services.access.domain.event_names import EVENT_NAMES, refuse_unknown_names
from services.chassis.errors import Invalid

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("package", [*(f"services.{stage}" for stage in STAGES), "gateway"])
def test_every_setting_says_what_it_means(package: str) -> None:
    fields = settings_class(package).model_fields
    assert [name for name, field in fields.items() if not field.description] == []


def test_reasons_are_found_with_their_status() -> None:
    found = {(reason.name, reason.http if reason.error else 0) for reason in error_reasons.find_reasons()}
    assert {("INVALID_API_KEY", 401), ("JOB_NOT_ACTIVE", 400), ("ETAG_MISMATCH", 409)} <= found, "raised as an error"
    assert {("OUT_OF_RANGE", 400), ("WRONG_SECRET_KEY", 403)} <= found, "a violation; one of a table"
    assert {("OUT_OF_MEMORY", 0), ("MISSING_FIELD", 0), ("BAD_ROWS", 0)} <= found, "of a job, a row, a file"


def test_events_are_found_with_the_states_of_their_resource() -> None:
    events = event_list.find_events()
    assert {"created", "running", "succeeded", "failed", "stopped", "checkpointed"} <= events["training"]["job"]
    assert {"scaled", "ready", "failing"} <= events["serving"]["deployment"]
    assert events["registry"]["alias"] == {"set", "deleted"}


def test_lists_of_events_know_every_name_and_refuse_others() -> None:
    emitted = {noun: names for nouns in event_list.find_events().values() for noun, names in nouns.items()}
    assert emitted == EVENT_NAMES
    for resource, happening in [("", ""), ("job", ""), ("job", "paused"), ("", "keyClaimed")]:
        refuse_unknown_names(resource, happening)
    for resource, happening, field in [("jobs", "", "resource"), ("job", "ready", "happening"), ("", "x", "happening")]:
        with pytest.raises(Invalid) as refusal:
            refuse_unknown_names(resource, happening)
        assert refusal.value.field == field


@pytest.mark.parametrize("stage", STAGES)
def test_a_services_readme_names_its_events(stage: str) -> None:
    page = (ROOT / "services" / stage / "README.md").read_text("utf-8")
    missing = [
        f"{noun}.{happening}"
        for noun, happenings in event_list.find_events()[stage].items()
        for happening in happenings - event_list.states_of(stage, noun).keys()
        if not re.search(rf"\b{happening}\b", page)
    ]
    assert missing == []


def test_a_happening_without_a_meaning_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_list, "find_events", lambda: {"dataset": {"dataset": {"created", "previewed"}}})
    with pytest.raises(SystemExit, match=r"dataset\.previewed has no meaning yet: add it to MEANINGS"):
        event_list.page()


def test_a_stale_page_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    monkeypatch.setattr(reference, "TARGET", tmp_path / "pages")
    monkeypatch.setattr(reference, "pages", lambda: {"one.md": "first"})
    monkeypatch.setattr(reference.sys, "argv", ["reference.py"])
    assert reference.main() == 0
    monkeypatch.setattr(reference.sys, "argv", ["reference.py", "--check"])
    assert reference.main() == 0
    (tmp_path / "pages/one.md").write_text("changed")
    (tmp_path / "pages/two.md").write_text("of nothing")
    assert reference.main() == 1
    assert "one.md is stale" in (said := capsys.readouterr().err)
    assert "two.md is stale" in said
