"""Which subject belongs to which category, and the accuracy of each category.

The tables are those that the benchmarks' authors published. Groups that overlap the four categories (CMMLU's
China-specific subjects, C-Eval's hard ones) are shown beside them and never counted twice.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

from services.evaluation.benchmarks.presets import Layout
from services.evaluation.scoring import intervals

CATEGORIES = ("STEM", "Social Sciences", "Humanities", "Other")
AVERAGE = "Average"
OWN_TABLE = "categories.json"
"""A file beside the splits' folders that gives own subjects their categories: {"subject": "STEM", …}."""


@dataclass(frozen=True)
class Categories:
    """A benchmark's subjects: category and title of each, and groups that overlap the categories."""

    category: Mapping[str, str]
    titles: Mapping[str, str]
    overlapping: Mapping[str, frozenset[str]]

    def of(self, subject: str) -> str:
        """Return the subject's category; one that no table names is "Other"."""
        return self.category.get(subject, "Other")

    def title(self, subject: str) -> str:
        """Return the subject as the prompt names it."""
        return self.titles.get(subject, subject.replace("_", " "))

    def unknown(self, subjects: Sequence[str]) -> list[str]:
        """Return the subjects that no table names."""
        return sorted(subject for subject in subjects if subject not in self.category)


@lru_cache(maxsize=8)
def shipped_categories(layout: Layout) -> Categories:
    """Return the authors' table of a benchmark."""
    text = resources.files("services.evaluation.benchmarks").joinpath(f"data/{layout}.json").read_text("utf-8")
    table = json.loads(text)
    category = {subject: name for name, subjects in table["categories"].items() for subject in subjects}
    overlapping = {name: frozenset(subjects) for name, subjects in table["overlapping"].items()}
    return Categories(category, table["titles"], overlapping)


def load_categories(layout: Layout, root: Path) -> Categories:
    """Return the authors' table, with the subjects that the folder's own table adds or moves.

    Raises: ValueError: the folder's table is no object of subjects and known categories.
    """
    shipped = shipped_categories(layout)
    own = root / OWN_TABLE
    if not own.is_file():
        return shipped
    try:
        table = json.loads(own.read_text("utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{OWN_TABLE} is not JSON: {error}") from error
    if not isinstance(table, dict):
        raise ValueError(f"{OWN_TABLE} must be an object of subject and category")
    for subject, name in table.items():
        if name not in CATEGORIES:
            raise ValueError(f"{OWN_TABLE}: category {name!r} of {subject!r} is none of {', '.join(CATEGORIES)}")
    return Categories({**shipped.category, **table}, shipped.titles, shipped.overlapping)


@dataclass(frozen=True)
class Answer:
    """One scored question: which subject, whether right, whether the answer could be read at all."""

    subject: str
    right: bool
    parsed: bool = True


@dataclass(frozen=True)
class CategoryScore:
    """Accuracy of a group of subjects, 0 to 1.

    micro: every question counts the same; macro: every subject does. unparsed answers count as wrong.
    """

    name: str
    right: int
    count: int
    unparsed: int
    micro: float
    macro: float
    interval: intervals.Interval


def groups(subjects: Sequence[str], categories: Categories) -> dict[str, set[str]]:
    """Return category, Average and overlapping group to the subjects that are in it; only groups that have one."""
    present = set(subjects)
    result = {name: {subject for subject in present if categories.of(subject) == name} for name in CATEGORIES}
    result[AVERAGE] = present
    result |= {name: present & members for name, members in categories.overlapping.items()}
    return {name: members for name, members in result.items() if members}


def category_scores(answers: Sequence[Answer], categories: Categories) -> list[CategoryScore]:
    """Return the accuracy per category, Average and overlapping group, in this order."""
    found = groups([answer.subject for answer in answers], categories)
    return [_score(name, [one for one in answers if one.subject in members]) for name, members in found.items()]


def _score(name: str, answers: Sequence[Answer]) -> CategoryScore:
    by_subject: dict[str, list[bool]] = {}
    for answer in answers:
        by_subject.setdefault(answer.subject, []).append(answer.right)
    right = sum(answer.right for answer in answers)
    return CategoryScore(
        name=name,
        right=right,
        count=len(answers),
        unparsed=sum(not answer.parsed for answer in answers),
        micro=right / len(answers),
        macro=sum(sum(rights) / len(rights) for rights in by_subject.values()) / len(by_subject),
        interval=intervals.share_interval(right, len(answers)),
    )


def compare_categories(
    baseline: Sequence[Answer], candidate: Sequence[Answer], categories: Categories
) -> dict[str, intervals.Difference]:
    """Return candidate minus baseline per group, on the same questions in the same order.

    Raises: ValueError: the two answered different questions.
    """
    if [answer.subject for answer in baseline] != [answer.subject for answer in candidate]:
        raise ValueError("a comparison needs the same questions of both systems")
    result = {}
    for name, members in groups([answer.subject for answer in baseline], categories).items():
        pairs = [(b.right, c.right) for b, c in zip(baseline, candidate, strict=True) if b.subject in members]
        result[name] = intervals.paired_shares([b for b, _ in pairs], [c for _, c in pairs])
    return result
