"""How sure a number is: bootstrap intervals, and paired tests of two systems on the same samples.

All resampling is seeded, so that the same samples give the same interval. Sources: Koehn 2004, "Statistical
significance tests for machine translation evaluation" (paired bootstrap); Wilson 1927 (interval of a share);
McNemar 1947 (paired test of two shares), here in its exact form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:  # numpy is loaded with the first resampling: the service reads names from here and needs none
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
Rows: TypeAlias = Sequence[Sequence[float]]
Statistic: TypeAlias = Callable[[Sequence[float]], float]
"""A number computed from the column sums of some samples' rows."""

RESAMPLES = 1000
CONFIDENCE = 0.95
SIGNIFICANCE = 0.05
"""A difference with a p-value from here up is called no significant difference."""
SEED = 20_240_601


@dataclass(frozen=True)
class Interval:
    """A confidence interval (level CONFIDENCE)."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """Candidate minus baseline on the same samples.

    p_value: probability of a difference at least as large when there is none, two-sided.
    """

    value: float
    low: float
    high: float
    p_value: float

    @property
    def words(self) -> str:
        """ "better", "worse" or "no significant difference"."""
        if self.p_value >= SIGNIFICANCE:
            return "no significant difference"
        return "better" if self.value > 0 else "worse"


def resampled_sums(rows: Floats) -> Floats:
    """Return the column sums of bootstrap resamples of the rows.

    Args:
        rows: one row of counts or scores a sample, shape (samples, columns), at least one sample.
    Returns: shape (RESAMPLES, columns). Two systems see the same samples.
    """
    import numpy as np

    count = rows.shape[0]
    generator = np.random.default_rng(SEED)
    sums = np.empty((RESAMPLES, rows.shape[1]))
    for index in range(RESAMPLES):
        drawn = np.bincount(generator.integers(0, count, size=count), minlength=count)
        sums[index] = drawn @ rows
    return sums


def _limits(values: Sequence[float] | Floats) -> tuple[float, float]:
    import numpy as np

    tail = (1 - CONFIDENCE) / 2
    return float(np.quantile(values, tail)), float(np.quantile(values, 1 - tail))


def bootstrap(rows: Rows, statistics: Mapping[str, Statistic]) -> dict[str, Interval]:
    """Return percentile bootstrap intervals of several statistics of column sums, from one set of resamples.

    Raises: ValueError: there is no row.
    """
    import numpy as np

    if not rows:
        raise ValueError("an interval needs at least one sample")
    sums = resampled_sums(np.asarray(rows, dtype=np.float64)).tolist()
    return {name: Interval(*_limits([value(row) for row in sums])) for name, value in statistics.items()}


def share_interval(hits: int, count: int) -> Interval:
    """Return the Wilson interval of a share: right at 0 and 1 too, where a bootstrap has no width.

    Raises: ValueError: count is not positive.
    """
    if count <= 0:
        raise ValueError("an interval needs at least one sample")
    z = 1.959963984540054
    share = hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def paired_bootstrap(baseline: Rows, candidate: Rows, statistics: Mapping[str, Statistic]) -> dict[str, Difference]:
    """Compare statistics of column sums on the same samples.

    The p-value counts resampled differences that lie at least as far from the observed one as it lies from 0, the
    observed one itself included, so that it is never 0.

    Raises: ValueError: no rows, or not as many of both.
    """
    import numpy as np

    if not baseline or len(baseline) != len(candidate):
        raise ValueError("a paired test needs the same samples of both systems")
    rows = np.concatenate([np.asarray(baseline, dtype=np.float64), np.asarray(candidate, dtype=np.float64)], axis=1)
    width = rows.shape[1] // 2
    total: list[float] = rows.sum(axis=0).tolist()
    sums: list[list[float]] = resampled_sums(rows).tolist()
    result = {}
    for name, value in statistics.items():
        observed = value(total[width:]) - value(total[:width])
        drawn = np.asarray([value(row[width:]) - value(row[:width]) for row in sums])
        low, high = _limits(drawn)
        further = int(np.count_nonzero(np.abs(drawn - observed) >= abs(observed) - 1e-12))
        result[name] = Difference(observed, low, high, (further + 1) / (len(drawn) + 1))
    return result


def mean_of(column: int, count: int) -> Statistic:
    """Return the statistic "mean of one column" over `count` samples (a resample has as many as the original)."""
    return lambda sums: sums[column] / count


def mcnemar_p(only_baseline: int, only_candidate: int) -> float:
    """Return the p-value of the exact two-sided McNemar test: questions that one alone got right are coin tosses."""
    tosses = only_baseline + only_candidate
    smaller = min(only_baseline, only_candidate)
    tail = sum(math.comb(tosses, hits) for hits in range(smaller + 1))
    return min(1.0, float(2 * tail / 2**tosses))


def paired_shares(baseline: Sequence[bool], candidate: Sequence[bool]) -> Difference:
    """Compare two shares of right answers on the same questions: exact McNemar test, bootstrap interval.

    Raises: ValueError: no questions, or not as many of both.
    """
    if not baseline:
        raise ValueError("a paired test needs the same samples of both systems")
    pairs = list(zip(baseline, candidate, strict=True))
    rows = [(float(right),) for right in baseline], [(float(right),) for right in candidate]
    drawn = paired_bootstrap(*rows, {"share": mean_of(0, len(pairs))})["share"]
    p_value = mcnemar_p(sum(b and not c for b, c in pairs), sum(c and not b for b, c in pairs))
    return replace(drawn, p_value=p_value)
