"""From the canonical files to token sequences: which rows are read, how they are encoded, which are refused."""

import json
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.chassis.worker import Inexpressible, encode_conversation
from services.training.worker.order import sample

READ_ROWS = 1_000
NAMED_ROWS = 20
"""Refused rows that a message names one by one; the log has them all."""


@dataclass(frozen=True)
class Row:
    """A conversation as it is stored. ``line`` is where it was in the file that it came from."""

    line: int
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None


@dataclass(frozen=True)
class Example:
    """A sequence to learn from. ``labels`` are the places (from 1) of the tokens to be predicted, rising."""

    ids: "array[int]"
    labels: "array[int]"
    weight: float = 1.0


@dataclass(frozen=True)
class Refused:
    """A row that is not trained on, and why."""

    source: str
    line: int
    reason: str

    def __str__(self) -> str:
        where = f"{self.source} line {self.line}" if self.source else f"line {self.line}"
        return f"{where}: {self.reason}"


@dataclass
class Examples:
    """The sequences of one or more data sets, and the rows that were refused."""

    examples: list[Example] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    rows: int = 0

    def refusal(self) -> str:
        """Say which rows were refused; the first of them each with its reason."""
        named = "; ".join(str(one) for one in self.refused[:NAMED_ROWS])
        more = len(self.refused) - NAMED_ROWS
        return f"{named}; and {more} more" if more > 0 else named


def read_rows(path: Path) -> Iterator[Row]:
    """Read a canonical Parquet file a thousand rows at a time."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=READ_ROWS, columns=["line", "messages", "tools"]):
            columns = (batch.column(name).to_pylist() for name in ("line", "messages", "tools"))
            for line, messages, tools in zip(*columns, strict=True):
                yield Row(int(line), json.loads(messages), json.loads(tools) if tools else None)


def count_rows(path: Path) -> int:
    """Return the number of rows, from the file's footer alone."""
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


def chosen_rows(path: Path, limit: int, seed: int, name: str) -> Iterator[Row]:
    """Read the rows that ``limit`` leaves of a file (0: all), in the order of the file."""
    chosen = set(sample(count_rows(path), limit, seed, name)) if limit else None
    for number, row in enumerate(read_rows(path)):
        if chosen is None or number in chosen:
            yield row


def encode_row(tokenizer: Any, row: Row, cutoff: int, weight: float = 1.0) -> list[Example]:
    """Encode one row; a template that rewrites earlier turns gives one sequence per answer.

    Raises: Inexpressible: the template cannot express it, or no token to learn is left after the cut.
    """
    made = []
    for encoded in encode_conversation(tokenizer, row.messages, row.tools):
        mask = encoded.label_mask[:cutoff]
        labels = [place for place, learned in enumerate(mask) if learned and place > 0]
        if labels:
            made.append(Example(array("i", encoded.input_ids[:cutoff]), array("i", labels), weight))
    if not made:
        raise Inexpressible(f"nothing to learn is left of it within the cut-off of {cutoff} tokens")
    return made


def encode_rows(
    tokenizer: Any,
    rows: Sequence[tuple[str, float, Row]],
    cutoff: int,
    on_row: Callable[[int], None] = lambda _done: None,
) -> Examples:
    """Encode rows given as (source, weight, row); ``on_row`` is told after each how many are done."""
    result = Examples()
    for source, weight, row in rows:
        result.rows += 1
        try:
            result.examples += encode_row(tokenizer, row, cutoff, weight)
        except Inexpressible as error:
            result.refused.append(Refused(source, row.line, str(error)))
        on_row(result.rows)
    return result
