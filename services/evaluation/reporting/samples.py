"""A sample: one question with what one target answered and how that was scored."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from services.evaluation.benchmarks.categories import Answer
from services.evaluation.scoring import texts
from services.evaluation.scoring.stopwords import StopWords

PRESET_METRIC = "accuracy"
CUSTOM_METRIC = "rouge_l_f"
"""Main metrics: what comparisons and gates use. Recall is shown, but it rewards rambling."""
_BLEU_SCALE = 100


@dataclass(frozen=True)
class Sample:
    """One question with one target's answer.

    index: number of the question in its task, from 0.
    group: subject of a preset, category of an own set, or "".
    scores: metric to value as the report shows it (BLEU 0 to 100, all else parts of 1); empty without a score.
    details: what else is worth knowing, for example that examples were left out, as text.
    """

    task: str
    target: str
    index: int
    group: str
    prompt: str
    references: tuple[str, ...]
    output: str
    scores: Mapping[str, float]
    score: float | None
    details: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the sample as one line of samples.jsonl."""
        row = asdict(self)
        if not self.details:
            del row["details"]
        return row

    @property
    def answer(self) -> Answer:
        """A preset's sample as its category counts it."""
        return Answer(self.group, bool(self.score), parsed="unparsed" not in self.details)


def shown(metric: str, value: float) -> float:
    """Return a metric's value as reports show it."""
    return value * _BLEU_SCALE if metric.startswith("bleu") else value


def choice_sample(
    task: str, target: str, index: int, question: tuple[str, str, str], choice: tuple[str, Mapping[str, float]]
) -> Sample:
    """Return a sample of (subject, text with its choices, right label), (chosen label, log-probability of each)."""
    subject, prompt, right = question
    chosen, log_probabilities = choice
    hit = float(chosen == right)
    scores = {PRESET_METRIC: hit} | {f"log_probability_{label}": value for label, value in log_probabilities.items()}
    return Sample(task, target, index, subject, prompt, (right,), chosen, scores, hit)


def text_sample(
    task: str,
    target: str,
    index: int,
    question: tuple[str, str, Sequence[str]],
    output: str | None,
    stopwords: StopWords,
) -> tuple[Sample, texts.TextScore]:
    """Return a sample of (category, prompt, references) with its scores; none when the prompt was too long (None)."""
    category, prompt, references = question
    details = {}
    score = texts.NO_SCORE if output is None else texts.score_text(output, references, stopwords)
    if output is None:
        details["unscored"] = "the prompt is longer than the model's context"
    elif not score.scored:
        details["unscored"] = "no reference is left after stop words"
    scores = {metric: shown(metric, value) for metric, value in score.values.items()}
    main = scores.get(CUSTOM_METRIC)
    return Sample(task, target, index, category, prompt, tuple(references), output or "", scores, main, details), score
