"""Builds a report of all samples, in the JSON form of `modelry.evaluation.v1.Report`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.evaluation.benchmarks.categories import AVERAGE, Categories, category_scores, compare_categories
from services.evaluation.reporting.samples import CUSTOM_METRIC, PRESET_METRIC, Sample, shown
from services.evaluation.scoring import intervals, texts

BASELINE = "baseline"
MACRO = "accuracy_macro"


@dataclass(frozen=True)
class TargetInfo:
    """A model of the evaluation: the label that the report shows, and baseline or candidate."""

    label: str
    role: str


@dataclass(frozen=True)
class TaskInfo:
    """A task of the evaluation.

    categories: of a preset; None for an own set.
    settings: what identifies the measurement, name to value.
    """

    name: str
    title: str
    categories: Categories | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def main_metric(self) -> str:
        """The metric that comparisons and gates use."""
        return CUSTOM_METRIC if self.categories is None else PRESET_METRIC


@dataclass(frozen=True)
class Measured:
    """What one target answered to one task; `scores` stand beside the samples of an own set."""

    samples: Sequence[Sample]
    scores: Sequence[texts.TextScore] = ()


Results = Mapping[tuple[str, str], Measured]
"""(task, target) to what was measured."""


def build_report(
    evaluation_id: str, tasks: Sequence[TaskInfo], targets: Sequence[TargetInfo], results: Results
) -> dict[str, Any]:
    """Score every target, and compare every candidate with the baseline on the same samples."""
    scores: list[dict[str, Any]] = []
    comparisons: list[dict[str, Any]] = []
    baseline = next(target.label for target in targets if target.role == BASELINE)
    for task in tasks:
        for target in targets:
            measured = results[task.name, target.label]
            scores += (_preset_scores if task.categories else _text_scores)(task, target.label, measured)
            if target.role != BASELINE:
                comparisons += _comparisons(task, target.label, results[task.name, baseline], measured)
    return {
        "evaluation_id": evaluation_id,
        "scores": scores,
        "comparisons": comparisons,
        "settings": [{"task": task.name, "values": dict(task.settings)} for task in tasks],
        "main_metrics": {task.name: task.main_metric for task in tasks},
    }


def _score(
    task: str, target: str, metric: str, group: str, value: float, interval: intervals.Interval | None
) -> dict[str, Any]:
    return {
        "task": task,
        "target": target,
        "metric": metric,
        "group": group,
        "value": value,
        "interval_low": interval.low if interval else value,
        "interval_high": interval.high if interval else value,
        "sample_count": 0,
        "unscored_count": 0,
        "unparsed_count": 0,
    }


def _preset_scores(task: TaskInfo, target: str, measured: Measured) -> list[dict[str, Any]]:
    assert task.categories is not None
    answers = [sample.answer for sample in measured.samples]
    result = []
    for score in category_scores(answers, task.categories):
        counts = {"sample_count": score.count, "unparsed_count": score.unparsed}
        result.append(_score(task.name, target, PRESET_METRIC, score.name, score.micro, score.interval) | counts)
        result.append(_score(task.name, target, MACRO, score.name, score.macro, None) | counts)
    for subject in sorted({answer.subject for answer in answers}):
        rights = [answer.right for answer in answers if answer.subject == subject]
        interval = intervals.share_interval(sum(rights), len(rights))
        row = _score(task.name, target, PRESET_METRIC, subject, sum(rights) / len(rights), interval)
        result.append(row | {"sample_count": len(rights)})
    return result


def _text_groups(samples: Sequence[Sample]) -> dict[str, list[int]]:
    """Return the average over all samples, then each category of the set (when it has any)."""
    groups = {AVERAGE: list(range(len(samples)))}
    for number, sample in enumerate(samples):
        if sample.group:
            groups.setdefault(sample.group, []).append(number)
    return groups


def _text_scores(task: TaskInfo, target: str, measured: Measured) -> list[dict[str, Any]]:
    result = []
    for group, numbers in _text_groups(measured.samples).items():
        summary = texts.summarize([measured.scores[number] for number in numbers])
        for metric, aggregate in summary.aggregates.items():
            value, low, high = (
                shown(metric, one) for one in (aggregate.value, aggregate.interval.low, aggregate.interval.high)
            )
            counts = {"sample_count": summary.scored, "unscored_count": summary.unscored}
            result.append(_score(task.name, target, metric, group, value, intervals.Interval(low, high)) | counts)
    return result


def _comparisons(task: TaskInfo, candidate: str, first: Measured, second: Measured) -> list[dict[str, Any]]:
    result: list[tuple[str, str, intervals.Difference]] = []
    if task.categories is not None:
        answers = [[sample.answer for sample in measured.samples] for measured in (first, second)]
        by_group = compare_categories(answers[0], answers[1], task.categories)
        result = [(PRESET_METRIC, group, difference) for group, difference in by_group.items()]
    else:
        for group, numbers in _text_groups(first.samples).items():
            pairs = [first.scores[n] for n in numbers], [second.scores[n] for n in numbers]
            by_metric = texts.compare(*pairs)
            result += [(metric, group, by_metric[metric]) for metric in texts.COMPARED_METRICS if metric in by_metric]
    return [
        {
            "task": task.name,
            "candidate": candidate,
            "metric": metric,
            "group": group,
            "difference": shown(metric, difference.value),
            "interval_low": shown(metric, difference.low),
            "interval_high": shown(metric, difference.high),
            "p_value": difference.p_value,
            "verdict": difference.words,
        }
        for metric, group, difference in result
    ]
