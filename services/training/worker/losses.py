"""Loss and accuracy over labelled tokens."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# Rows of logits handled at once: at 50,000 words they fit in a core's cache, and fp32 copies of all never exist.
_CHUNK = 32


class _LabelLoss(torch.autograd.Function):
    """Sum of cross-entropies; the gradient is computed with the loss, while the logits are in the cache."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros((), dtype=torch.float32, device=logits.device)
        right = torch.zeros((), dtype=torch.long, device=logits.device)
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        for first in range(0, targets.shape[0], _CHUNK):
            target = targets[first : first + _CHUNK]
            index = target[:, None]
            part = logits[first : first + _CHUNK].float()
            highest, place = part.max(-1)
            label = part.gather(1, index)[:, 0]
            part = part.sub_(highest[:, None]).exp_()
            summed = part.sum(-1)
            total += (summed.log() + highest - label).sum()
            right += (place == target).sum()
            if gradient is not None:
                part = part.div_(summed[:, None])
                part.scatter_add_(1, index, torch.full_like(index, -1, dtype=part.dtype))
                gradient[first : first + _CHUNK] = part
        if gradient is not None:
            ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(right)
        return total, right

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0], None  # a fp32 scalar: the product is rounded once


def label_loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return (sum of cross-entropies in nats, number of targets that had the highest logit).

    Args:
        logits: any float type, shape (labels, words). The sums are in fp32.
        targets: shape (labels,).
    The sum is differentiable once: its gradient is softmax minus one at the target.
    """
    loss, right = _LabelLoss.apply(logits, targets)
    return loss, right


def add_noise(embeddings: Tensor, bounds: Sequence[int], alpha: float) -> Tensor:
    """Return embeddings with uniform noise, smaller for longer conversations.

    Args:
        embeddings: shape (1, tokens, size).
        bounds: begin of each conversation and the end of the last.
        alpha: strength, > 0: the noise of a conversation is within alpha / sqrt(length * size).
    Source: Jain et al. 2023 (NEFTune), arXiv:2310.05914.
    """
    size = embeddings.shape[-1]
    limits = [(alpha / (n * size) ** 0.5, n) for n in (b - a for a, b in itertools.pairwise(bounds))]
    reach = torch.cat([torch.full((n, 1), limit, device=embeddings.device) for limit, n in limits])
    noise = torch.empty(embeddings.shape, device=embeddings.device).uniform_(-1, 1) * reach
    return embeddings + noise.to(embeddings.dtype)


def mean(total: float, count: int) -> float:
    """Return a sum over so many tokens as one token's value; 0 when there is none."""
    return total / count if count else 0.0
