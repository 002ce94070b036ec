"""Writes the files of a report: report.json, report.html, scores.csv, samples.jsonl."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from services.evaluation.reporting.build import TargetInfo, TaskInfo
from services.evaluation.reporting.page import write_page
from services.evaluation.reporting.samples import Sample

FILES = ("report.json", "report.html", "scores.csv", "samples.jsonl")
_COLUMNS = (
    "task", "target", "metric", "group", "value", "interval_low", "interval_high",
    "sample_count", "unscored_count", "unparsed_count",
)  # fmt: skip


def write_files(
    folder: Path,
    report: Mapping[str, Any],
    tasks: Sequence[TaskInfo],
    targets: Sequence[TargetInfo],
    samples: Sequence[Sample],
) -> None:
    """Write the four files of a report into a folder; samples in the order in which the files list them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", "utf-8")
    (folder / "report.html").write_text(write_page(report, tasks, targets, samples), "utf-8")
    with (folder / "scores.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(report["scores"])
    with (folder / "samples.jsonl").open("w", encoding="utf-8") as file:
        for sample in samples:
            file.write(json.dumps(sample.to_json(), ensure_ascii=False) + "\n")
