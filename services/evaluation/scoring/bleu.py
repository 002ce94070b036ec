"""BLEU on tokens, of a sentence and of a corpus, from 0 to 1.

Source: Papineni et al. 2002, "BLEU: a method for automatic evaluation of machine translation"; effective order and
exponential smoothing as in Post 2018 (sacrebleu). Several references: an n-gram counts at most as often as the
reference that has it most often; the length is that of the closest reference, the shorter of two equally close.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from services.evaluation.scoring.rouge import ngrams

MAX_ORDER = 4


@dataclass(frozen=True)
class BleuCounts:
    """What BLEU needs to know of a text; counts of several texts add up to those of their corpus.

    matched, total: per order 1..4, n-grams found in a reference (clipped) and n-grams of the hypothesis.
    """

    matched: tuple[int, ...]
    total: tuple[int, ...]
    hypothesis_length: int
    reference_length: int

    def row(self) -> tuple[int, ...]:
        """Return the counts as ten numbers, for resampling."""
        return (*self.matched, *self.total, self.hypothesis_length, self.reference_length)


def bleu_counts(hypothesis: Sequence[str], references: Sequence[Sequence[str]]) -> BleuCounts:
    """Count one hypothesis against its references.

    Raises: ValueError: there is no reference.
    """
    size = len(hypothesis)
    closest = min((abs(len(reference) - size), len(reference)) for reference in references)[1]
    matched, total = [], []
    for order in range(1, MAX_ORDER + 1):
        most: Counter[tuple[str, ...]] = Counter()
        for reference in references:
            most |= ngrams(reference, order)
        ours = ngrams(hypothesis, order)
        matched.append(sum(min(count, most[gram]) for gram, count in ours.items() if gram in most))
        total.append(max(0, size - order + 1))
    return BleuCounts(tuple(matched), tuple(total), size, closest)


def _brevity_penalty(hypothesis_length: int, reference_length: int) -> float:
    if hypothesis_length >= reference_length:
        return 1.0
    return math.exp(1 - reference_length / hypothesis_length) if hypothesis_length else 0.0


def sentence_bleu(counts: BleuCounts) -> float:
    """Return the BLEU of a text: over the orders that its length has, a count of 0 smoothed to 1/2, 1/4, … n-gram.

    Returns: 0 when not one token matches.
    """
    if not counts.matched[0]:
        return 0.0
    logs, halving = [], 1.0
    for matched, total in zip(counts.matched, counts.total, strict=True):
        if not total:
            break
        if not matched:
            halving *= 2
        logs.append(math.log(matched / total if matched else 1 / (halving * total)))
    return _brevity_penalty(counts.hypothesis_length, counts.reference_length) * math.exp(sum(logs) / len(logs))


def bleu_of_row(row: Sequence[float]) -> float:
    """Return the BLEU of a corpus, four orders, not smoothed, of its texts' counts in the order of `BleuCounts.row`.

    Returns: 0 when an order has no match at all.
    """
    matched, total = row[:MAX_ORDER], row[MAX_ORDER : 2 * MAX_ORDER]
    if min(matched) <= 0:
        return 0.0
    logs = [math.log(hits / size) for hits, size in zip(matched, total, strict=True)]
    penalty = _brevity_penalty(int(row[-2]), int(row[-1]))
    return penalty * math.exp(sum(logs) / MAX_ORDER)
