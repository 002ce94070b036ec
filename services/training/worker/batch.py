"""Rows of different lengths as one row without padding."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Row:
    """One conversation as tokens. ``line`` is its line in the source, ``source`` says which data set."""

    input_ids: list[int]
    label_mask: list[bool]
    line: int
    source: str

    @property
    def label_count(self) -> int:
        """Tokens that are learned. The first token of a row has nothing before it that could predict it."""
        return sum(self.label_mask[1:])


@dataclass(frozen=True)
class Batch:
    """Conversations one after the other in a single row.

    Attributes:
        input_ids: tokens, shape (1, tokens).
        position_ids: positions, from 0 again at each conversation, shape (1, tokens).
        bounds: where conversations begin, and the end: 0 = bounds[0] < … < bounds[-1] = tokens; int32.
        label_positions: places whose next token is learned, shape (labels,).
        targets: those next tokens, shape (labels,).
    """

    input_ids: Tensor
    position_ids: Tensor
    bounds: Tensor
    label_positions: Tensor
    targets: Tensor

    @property
    def token_count(self) -> int:
        """Real tokens; there are no others."""
        return int(self.input_ids.shape[1])

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        return Batch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


def concatenate(rows: Sequence[Row]) -> Batch:
    """Put rows one after the other. Raises: ValueError: no rows."""
    if not rows:
        raise ValueError("a batch needs at least one row")
    tokens: list[int] = []
    positions: list[int] = []
    bounds = [0]
    places: list[int] = []
    targets: list[int] = []
    for row in rows:
        begin = len(tokens)
        tokens += row.input_ids
        positions += range(len(row.input_ids))
        learned = [i for i in range(1, len(row.input_ids)) if row.label_mask[i]]
        places += [begin + i - 1 for i in learned]
        targets += [row.input_ids[i] for i in learned]
        bounds.append(len(tokens))
    return Batch(
        input_ids=torch.tensor([tokens]),
        position_ids=torch.tensor([positions]),
        bounds=torch.tensor(bounds, dtype=torch.int32),
        label_positions=torch.tensor(places, dtype=torch.long),
        targets=torch.tensor(targets, dtype=torch.long),
    )
