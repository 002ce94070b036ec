"""Alpaca rows for the training bench, generated where nobody named a file.

Their lengths are spread as those of real instruction sets are: what a batch loses to padding depends on it.
"""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path

ROWS = 400
QUESTION_WORDS = ((0.0, 5), (0.05, 6), (0.25, 9), (0.5, 12), (0.75, 16), (0.95, 31), (1.0, 70))
ANSWER_WORDS = ((0.0, 2), (0.05, 6), (0.25, 19), (0.5, 81), (0.75, 199), (0.95, 305), (1.0, 390))
"""Quantiles of the number of words."""
WORDS = """
    the a of to and in is that for it as with on be at by this from or an which can have not are more one their has
    was will when use time people make water work house small large good city music year light energy help find write
    read story number system plan health food simple example common process change important different result
"""


def write_rows(file: Path) -> None:
    """Write the same rows each time."""
    chance = random.Random(42)
    rows = [
        {"instruction": _text(chance, QUESTION_WORDS), "input": "", "output": _text(chance, ANSWER_WORDS)}
        for _ in range(ROWS)
    ]
    file.write_text(json.dumps(rows), "utf-8")


def _text(chance: random.Random, quantiles: tuple[tuple[float, int], ...]) -> str:
    place = chance.random()
    (low, least), (high, most) = next(pair for pair in pairwise(quantiles) if place <= pair[1][0])
    length = round(least + (most - least) * (place - low) / (high - low))
    return " ".join(chance.choices(WORDS.split(), k=length)).capitalize() + "."
