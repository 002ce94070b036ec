"""ROUGE-1, ROUGE-2 and ROUGE-L on tokens: precision, recall, F.

Source: Lin 2004, "ROUGE: a package for automatic evaluation of summaries", sections 2 and 3 (sentence level).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Overlap:
    """Precision, recall and their harmonic mean, each from 0 to 1."""

    precision: float
    recall: float
    f: float

    @classmethod
    def of(cls, matched: int, hypothesis_size: int, reference_size: int) -> "Overlap":
        """From counts; a size of 0 gives 0, as in rouge-score."""
        precision = matched / hypothesis_size if hypothesis_size else 0.0
        recall = matched / reference_size if reference_size else 0.0
        total = precision + recall
        return cls(precision, recall, 2 * precision * recall / total if total else 0.0)


ZERO = Overlap(0.0, 0.0, 0.0)


def ngrams(tokens: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    """Return how often each run of `order` tokens occurs."""
    return Counter(zip(*(tokens[start:] for start in range(order)), strict=False))


def rouge_n(hypothesis: Sequence[str], reference: Sequence[str], order: int) -> Overlap:
    """Return the overlap of n-grams; each counts at most as often as the reference has it (clipped)."""
    ours, theirs = ngrams(hypothesis, order), ngrams(reference, order)
    matched = sum(min(count, theirs[gram]) for gram, count in ours.items() if gram in theirs)
    return Overlap.of(matched, max(0, len(hypothesis) - order + 1), max(0, len(reference) - order + 1))


def lcs_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, by bits of one long integer.

    Source: Hyyrö 2004, "Bit-parallel LCS-length computation revisited": a zero bit of `row` at i says that the
    length grows at first[i]. One addition a token of `second` instead of a row of the table.
    """
    positions: dict[str, int] = {}
    for index, token in enumerate(first):
        positions[token] = positions.get(token, 0) | 1 << index
    full = (1 << len(first)) - 1
    row = full
    for token in second:
        matches = positions.get(token)
        if matches:
            met = row & matches
            row = (row + met | row - met) & full
    return len(first) - row.bit_count()


def rouge_l(hypothesis: Sequence[str], reference: Sequence[str]) -> Overlap:
    """Return the overlap by the longest common subsequence of the whole texts, each taken as one sentence."""
    return Overlap.of(lcs_length(hypothesis, reference), len(hypothesis), len(reference))


def best(overlaps: Sequence[Overlap]) -> Overlap:
    """Return the best of several references: highest F, then recall. Its three numbers stay together.

    Raises: ValueError: there is none.
    """
    return max(overlaps, key=lambda overlap: (overlap.f, overlap.recall))
