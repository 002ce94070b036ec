"""A micro-batch as ONE row without padding: sequences behind each other, positions that restart. Pure.

Padding would be masked by position and computed for nothing; half of a random batch of chat data is padding. The
sequences see nothing of each other because the attention works per span (see ``attention.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from services.training.worker.rows import Example


@dataclass(frozen=True)
class Batch:
    """Sequences in one row of T tokens with N labels.

    ``ids`` and ``positions`` have shape (1, T). ``bounds`` holds the begin of each sequence and the end of the last.
    ``keep`` (N,) are the places whose logits are wanted, each one before its label; ``targets`` (N,) the labels' ids.
    """

    ids: Tensor
    positions: Tensor
    bounds: tuple[int, ...]
    keep: Tensor
    targets: Tensor

    @property
    def tokens(self) -> int:
        """Real tokens."""
        return self.bounds[-1]

    @property
    def labels(self) -> int:
        """Tokens to be predicted."""
        return int(self.targets.shape[0])

    def to(self, device: torch.device) -> "Batch":
        """Return the same on a device."""
        tensors = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **tensors)


def collate(examples: Sequence[Example]) -> Batch:
    """Put sequences behind each other.

    Raises: ValueError: there is none.
    """
    if not examples:
        raise ValueError("a batch needs a sequence")
    ids: list[int] = []
    positions: list[int] = []
    keep: list[int] = []
    targets: list[int] = []
    bounds = [0]
    for example in examples:
        begin = len(ids)
        ids += example.ids
        positions += range(len(example.ids))
        keep += (begin + place - 1 for place in example.labels)
        targets += (example.ids[place] for place in example.labels)
        bounds.append(len(ids))
    return Batch(
        ids=torch.tensor([ids]),
        positions=torch.tensor([positions]),
        bounds=tuple(bounds),
        keep=torch.tensor(keep),
        targets=torch.tensor(targets),
    )


def label_count(examples: Sequence[Example]) -> int:
    """Return tokens to be predicted in all."""
    return sum(len(example.labels) for example in examples)


def by_tokens(examples: Sequence[Example], most_tokens: int) -> list[list[Example]]:
    """Group sequences in their order so that a group has at most that many tokens, or one sequence."""
    groups: list[list[Example]] = []
    size = 0
    for example in examples:
        if not groups or size + len(example.ids) > most_tokens:
            groups.append([])
            size = 0
        groups[-1].append(example)
        size += len(example.ids)
    return groups
