"""Sends samples and report to the service in pieces that a report may have."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from services.chassis.reporting import Reporter
from services.evaluation.reporting.samples import Sample

PIECE_BYTES = 200_000
MAX_TEXT = 20_000
"""Characters of a text that the service keeps; samples.jsonl has all of them."""


def pieces(rows: Iterable[Mapping[str, Any]]) -> Iterable[list[Mapping[str, Any]]]:
    """Return rows in lists of at most PIECE_BYTES as JSON (a single larger row alone)."""
    piece: list[Mapping[str, Any]] = []
    size = 0
    for row in rows:
        length = len(json.dumps(row, ensure_ascii=False).encode())
        if piece and size + length > PIECE_BYTES:
            yield piece
            piece, size = [], 0
        piece.append(row)
        size += length
    if piece:
        yield piece


def send_samples(reporter: Reporter, samples: Sequence[Sample], done: int) -> None:
    """Send what one target answered to one task; `done` says how many samples the attempt has in all."""
    for piece in pieces(_short(sample.to_json()) for sample in samples):
        reporter.send("result", {"part": "samples", "done": done, "rows": piece})


def send_report(reporter: Reporter, report: Mapping[str, Any]) -> None:
    """Send the report: its lists in pieces, then the word that it is whole."""
    for part in ("scores", "comparisons", "settings"):
        for piece in pieces(report[part]):
            reporter.send("result", {"part": part, "rows": piece})
    reporter.send("result", {"part": "main_metrics", "values": report["main_metrics"]})


def _short(row: dict[str, Any]) -> dict[str, Any]:
    def cut(text: str) -> str:
        return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + " …"

    return row | {
        "prompt": cut(row["prompt"]),
        "output": cut(row["output"]),
        "references": [cut(reference) for reference in row["references"][:16]],
    }
