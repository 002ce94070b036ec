"""Counts are exact, or estimated as they say."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from services.dataset.reading.sample import Sample
from services.dataset.reading.statistics import DigestCounter, Notes, Statistics, estimate_tokens

pytestmark = pytest.mark.unit


def test_tokens_are_a_quarter_of_the_characters_and_one_per_cjk_character() -> None:
    assert estimate_tokens("abcdefgh") == 8 / 4
    assert estimate_tokens("中文") == 2
    assert estimate_tokens("abcd中文éé") == 4 / 4 + 2 + 2 / 4


def test_duplicates_are_counted_exactly_over_the_file_and_in_several_passes(tmp_path: Path) -> None:
    random.seed(7)
    digests = [random.randrange(-(2**63), 2**63) for _ in range(70_000)]
    digests += digests[:1234]
    counter = DigestCounter(tmp_path / "spill", pass_rows=20_000)
    for digest in digests:
        counter.add(digest)
    assert counter.duplicates() == 1234
    assert not (tmp_path / "spill").exists()


def test_turns_roles_and_lengths_add_up(tmp_path: Path) -> None:
    statistics = Statistics(Notes(), tmp_path / "spill")
    short = Sample([{"role": "user", "content": "abcd"}, {"role": "assistant", "content": "efgh"}])
    long = Sample([{"role": "user", "content": "x" * 600}, {"role": "assistant", "content": "y"}], tools=[{}])
    for line, sample in enumerate((short, long, short)):
        statistics.add(line, sample, repr(sample).encode())
    summary = statistics.summary(2)
    assert summary["turn_count"] == 6
    assert summary["turns_by_role"] == {"assistant": 3, "user": 3}
    assert summary["character_count"] == 8 + 601 + 8
    assert summary["estimated_token_count"] == 2 + 151 + 2
    assert summary["rows_by_token_length"] == {"128": 2, "256": 1}
    assert summary["rows_by_turn_count"] == {"2": 3}
    assert (summary["duplicate_row_count"], summary["tool_row_count"], summary["empty_answer_count"]) == (1, 1, 2)
