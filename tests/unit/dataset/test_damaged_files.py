"""Walks the damaged files that come with their verdicts, where they are there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.dataset.reading.importing import Findings, Options, import_sources
from services.dataset.reading.problems import FileRefused
from services.dataset.reading.source import ByteSource

pytestmark = pytest.mark.unit

FOLDER = Path(__file__).parents[4] / "shared" / "data" / "bad"
LATER = {
    "oneline_100mb.json.gz": "COMPRESSED",
    "truncated.jsonl.gz": "COMPRESSED",
    "mmlu_ragged.csv": "FORMAT_NOT_SUPPORTED",
}
"""Kinds of source that a later release reads; until then they are refused by name."""


def cases() -> list[dict[str, Any]]:
    manifest = FOLDER / "manifest.json"
    return json.loads(manifest.read_text())["files"] if manifest.exists() else []  # type: ignore[no-any-return]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["file"])
def test_damaged_file_gets_its_verdict(case: dict[str, Any], tmp_path: Path) -> None:
    findings = Findings()
    refused: FileRefused | None = None
    with (FOLDER / case["file"]).open("rb") as stream:
        source = ByteSource(stream, case["file"])
        try:
            import_sources([source], tmp_path, Options(max_bad_rows=100), findings, lambda good, bad: None)
        except FileRefused as error:
            refused = error
    if case["file"] in LATER:
        assert refused is not None and refused.reason == LATER[case["file"]]
        return
    assert (refused is not None) == (case["verdict"] == "reject")
    if refused is None:
        assert [error.line for _, error in findings.errors] == case["bad_rows"]
        assert (findings.row_count, source.sha256) == (case["rows_good"], case["sha256"])
