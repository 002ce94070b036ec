"""Which rows are in which step: a pure function of seed, sizes and weights, the same in every process. Pure.

A resumed worker, and every rank, computes the order anew instead of being told it.
"""

import hashlib
import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass


def generator(seed: int, *words: object) -> random.Random:
    """Return random numbers of their own for one purpose, so that no use of them disturbs another."""
    text = "/".join(str(word) for word in (seed, *words))
    return random.Random(hashlib.sha256(text.encode()).digest())  # noqa: S311 - an order, not a secret


def sample(count: int, limit: int, seed: int, name: object) -> list[int]:
    """Return at most ``limit`` row numbers of ``count`` (0: all), in the seeded order."""
    rows = list(range(count))
    generator(seed, "sample", name).shuffle(rows)
    return rows[:limit] if limit else rows


def split(count: int, ratio: float, seed: int) -> tuple[list[int], list[int]]:
    """Divide row numbers into (training, validation); both have at least one row when ratio > 0 and count > 1."""
    if ratio <= 0 or count < 2:
        return list(range(count)), []
    rows = list(range(count))
    generator(seed, "split").shuffle(rows)
    held = min(count - 1, max(1, round(count * ratio)))
    return sorted(rows[held:]), sorted(rows[:held])


@dataclass(frozen=True)
class Order:
    """The order of rows. ``weights[i]`` says how often row i counts in an epoch; a fraction takes that part of them.

    ``batch`` is the number of rows in a step, over all micro-batches and ranks.
    """

    weights: Sequence[float]
    batch: int
    epochs: float
    seed: int

    @property
    def rows_per_epoch(self) -> int:
        """Rows of one epoch; the same in every epoch, so that a step's number says where it is."""
        return len(self.epoch(0))

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one epoch; the last may be smaller."""
        return math.ceil(self.rows_per_epoch / self.batch)

    @property
    def total_steps(self) -> int:
        """Steps in all, at least one."""
        return max(1, math.ceil(self.steps_per_epoch * self.epochs - 1e-9))

    def epoch(self, number: int) -> list[int]:
        """Return the rows of one epoch in their order."""
        rows: list[int] = []
        for weight in sorted(set(self.weights)):
            members = [row for row, own in enumerate(self.weights) if own == weight]
            whole = math.floor(weight)
            rows += members * whole
            part = round(len(members) * (weight - whole))
            if part:
                rows += generator(self.seed, "part", weight, number).sample(members, part)
        generator(self.seed, "epoch", number).shuffle(rows)
        return rows

    def batches(self, number: int) -> list[list[int]]:
        """Return the rows of each step of one epoch."""
        rows = self.epoch(number)
        return [rows[first : first + self.batch] for first in range(0, len(rows), self.batch)]


def deal(rows: Sequence[int], batch_size: int, world_size: int) -> list[list[list[int]]]:
    """Deal the rows of one step: ``deal(…)[micro_batch][rank]`` are that rank's rows, as even as can be.

    A rank's part may be empty in a last, small step; it still has to take part in what ranks do together.
    """
    dealt = []
    for first in range(0, len(rows), batch_size * world_size):
        part = rows[first : first + batch_size * world_size]
        bounds = [len(part) * rank // world_size for rank in range(world_size + 1)]
        dealt.append([list(part[a:b]) for a, b in itertools.pairwise(bounds)])
    return dealt
