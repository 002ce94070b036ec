"""Scores generated texts against their references: per sample and over all, under one signature.

A metric's full name carries what else decides its value, for example
`rouge_l_recall[tok=modelry-1+jieba-0.42.1,stop=en+zh-1a2b3c4d]`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from services.evaluation.scoring import bleu, intervals, rouge
from services.evaluation.scoring.stopwords import StopWords
from services.evaluation.scoring.tokens import TOKENIZER_NAME, tokenize

_ROUGES: Mapping[str, Callable[[Sequence[str], Sequence[str]], rouge.Overlap]] = {
    "rouge_1": partial(rouge.rouge_n, order=1),
    "rouge_2": partial(rouge.rouge_n, order=2),
    "rouge_l": rouge.rouge_l,
}
SENTENCE_METRICS = (*(f"{metric}_{part}" for metric in _ROUGES for part in ("precision", "recall", "f")), "bleu")
"""Metrics that every sample has; the corpus value is their mean."""
CORPUS_BLEU = "bleu_corpus"
METRICS = (*SENTENCE_METRICS, CORPUS_BLEU)
SHOWN_METRICS = ("rouge_1_recall", "rouge_2_recall", "rouge_l_recall", "bleu")
"""Shown by default, as documented; recall rewards rambling, so comparisons decide by COMPARED_METRICS."""
COMPARED_METRICS = ("rouge_1_f", "rouge_2_f", "rouge_l_f", "bleu", CORPUS_BLEU)


def metric_name(metric: str, stopwords: StopWords) -> str:
    """Return the full name of a metric: with tokenizer and stop-word list digest."""
    stop = f"{stopwords.name}-{stopwords.digest}" if stopwords.words else "none"
    return f"{metric}[tok={TOKENIZER_NAME},stop={stop}]"


@dataclass(frozen=True)
class TextScore:
    """Scores of one sample.

    values: metric to value, 0 to 1; empty when no reference is left after stop words.
    counts: what corpus BLEU sums; None when there is no score.
    """

    values: Mapping[str, float]
    counts: bleu.BleuCounts | None

    @property
    def scored(self) -> bool:
        """Whether the sample has a score at all."""
        return self.counts is not None


NO_SCORE = TextScore({}, None)


def score_text(hypothesis: str, references: Sequence[str], stopwords: StopWords) -> TextScore:
    """Score one generated text.

    Args:
        hypothesis: what the model said; an empty one scores 0.
        references: the right answers; those without a token after stop words are left out.
    Returns: all SENTENCE_METRICS, or NO_SCORE when no reference is left.
    """
    kept = [tokens for text in references if (tokens := stopwords.remove(tokenize(text)))]
    if not kept:
        return NO_SCORE
    ours = stopwords.remove(tokenize(hypothesis))
    counts = bleu.bleu_counts(ours, kept)
    values: dict[str, float] = {"bleu": bleu.sentence_bleu(counts)}
    for metric, measure in _ROUGES.items():
        overlap = rouge.best([measure(ours, reference) for reference in kept])
        values |= {f"{metric}_{part}": value for part, value in vars(overlap).items()}
    return TextScore(values, counts)


@dataclass(frozen=True)
class Aggregate:
    """One metric over all scored samples."""

    value: float
    interval: intervals.Interval


@dataclass(frozen=True)
class TextSummary:
    """All metrics of one system on one set.

    scored, unscored: samples with and without a score (no reference left after stop words).
    """

    aggregates: Mapping[str, Aggregate]
    scored: int
    unscored: int


def _row(score: TextScore) -> tuple[float, ...]:
    """Return a scored sample as numbers that may be summed: its metrics, then the counts of BLEU."""
    assert score.counts is not None
    return (*(score.values[metric] for metric in SENTENCE_METRICS), *score.counts.row())


def _statistics(count: int) -> dict[str, intervals.Statistic]:
    """Return what each metric is of the sums of `count` rows."""
    statistics = {metric: intervals.mean_of(column, count) for column, metric in enumerate(SENTENCE_METRICS)}
    statistics[CORPUS_BLEU] = lambda sums: bleu.bleu_of_row(sums[len(SENTENCE_METRICS) :])
    return statistics


def summarize(scores: Sequence[TextScore]) -> TextSummary:
    """Return every metric with its interval over the samples that have a score; no aggregate when none has one."""
    rows = [_row(score) for score in scores if score.scored]
    if not rows:
        return TextSummary({}, 0, len(scores))
    statistics = _statistics(len(rows))
    sums = [sum(column) for column in zip(*rows, strict=True)]
    bounds = intervals.bootstrap(rows, statistics)
    aggregates = {name: Aggregate(value(sums), bounds[name]) for name, value in statistics.items()}
    return TextSummary(aggregates, len(rows), len(scores) - len(rows))


def compare(baseline: Sequence[TextScore], candidate: Sequence[TextScore]) -> dict[str, intervals.Difference]:
    """Return candidate minus baseline for every metric, on the samples that have a score (the same ones for both).

    Raises: ValueError: the two were not scored on the same samples.
    """
    if len(baseline) != len(candidate):
        raise ValueError("a comparison needs the same samples of both systems")
    pairs = [(_row(b), _row(c)) for b, c in zip(baseline, candidate, strict=True) if b.scored and c.scored]
    if not pairs:
        return {}
    return intervals.paired_bootstrap([b for b, _ in pairs], [c for _, c in pairs], _statistics(len(pairs)))
