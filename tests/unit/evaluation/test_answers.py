"""The cache of answers, and how batches and prefixes are planned."""

import json
from pathlib import Path

import pytest

from services.evaluation.worker.answers import AnswerCache, prompt_digest

pytestmark = pytest.mark.unit


def test_the_first_answer_stays(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path, {"base": "a"})
    cache.put([("p", "one"), ("q", [1.5, -2.25])])
    cache.put([("p", "two")])
    again = AnswerCache(tmp_path, {"base": "a"})
    assert again.get("p") == "one"
    assert again.get("q") == [1.5, -2.25]
    assert again.get("r") is None


def test_two_workers_keep_each_others_answers_and_the_first_one_counts(tmp_path: Path) -> None:
    first, second = AnswerCache(tmp_path, {"base": "a"}), AnswerCache(tmp_path, {"base": "a"})
    first.put([("p", "one")])
    second.put([("p", "two"), ("q", "three")])
    again = AnswerCache(tmp_path, {"base": "a"})
    assert (again.get("p"), again.get("q")) == ("one", "three")


def test_whatever_decides_an_answer_names_another_cache(tmp_path: Path) -> None:
    AnswerCache(tmp_path, {"base": "a", "adapter": ""}).put([("p", "one")])
    assert AnswerCache(tmp_path, {"base": "a", "adapter": "b"}).get("p") is None


def test_a_line_cut_off_by_a_kill_is_ignored_and_harms_no_later_one(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path, {})
    cache.put([("p", "one")])
    (path,) = tmp_path.iterdir()
    with path.open("a") as file:
        file.write('{"prompt": "q", "ans')
    AnswerCache(tmp_path, {}).put([("r", "two")])
    again = AnswerCache(tmp_path, {})
    assert (again.get("p"), again.get("q"), again.get("r")) == ("one", None, "two")
    assert json.loads(path.read_text().splitlines()[0])["prompt"] == "p"


def test_prompts_are_told_apart_by_their_tokens() -> None:
    assert prompt_digest([1, 23]) != prompt_digest([12, 3])
