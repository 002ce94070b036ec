"""Causal attention inside each conversation of a concatenated row."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from services.chassis.engines import SPAN_ATTENTION

# Up to here written-out attention is two to three times faster on a CPU than the fused kernel, whose backward pass is
# slow; beyond, the square of the length costs more memory than that is worth.
WRITTEN_OUT_TOKENS = 512


def register() -> str:
    """Make the attention known to transformers and return the name to load a model with."""
    from transformers import AttentionInterface

    AttentionInterface.register(SPAN_ATTENTION, spans_attention)
    return SPAN_ATTENTION


def spans_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    bounds: Sequence[int] | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend causally inside each span, as if each were alone.

    Args:
        module: the attention layer, as transformers passes it.
        query: shape (1, heads, tokens, head size).
        key: shape (1, key heads, tokens, head size); ``value`` likewise.
        attention_mask: not used: spans say it all.
        scaling: factor of the scores; one over the root of the head size when None.
        dropout: of attention weights.
        sliding_window: how many tokens back a token sees, itself included; None: all.
        softcap: bound of the scores (Gemma 2); None: unbounded.
        bounds: begin of each span and the end of the last; None: one span.
    Returns: shape (1, tokens, heads, head size), and no weights.
    """
    lengths = [last - first for first, last in itertools.pairwise(bounds or (0, query.shape[2]))]
    # split, not slices: the gradient of each slice would be a row of zeros of full length
    pieces = zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
    factor = scaling if scaling is not None else query.shape[-1] ** -0.5
    outputs = []
    for length, (q, k, v) in zip(lengths, pieces, strict=True):
        short = query.device.type == "cpu" and length <= WRITTEN_OUT_TOKENS
        windowed = sliding_window is not None and sliding_window < length
        if softcap is not None or windowed or short:
            outputs.append(_written_out(q, k, v, factor, dropout, sliding_window if windowed else None, softcap))
        else:
            out = F.scaled_dot_product_attention(q, k, v, None, dropout, True, scale=factor, enable_gqa=True)
            outputs.append(out.transpose(1, 2))
    return torch.cat(outputs, dim=1), None


def _written_out(
    q: Tensor, k: Tensor, v: Tensor, factor: float, dropout: float, window: int | None, softcap: float | None
) -> Tensor:
    """Attention of one span by two products; softmax sums in fp32 whatever the type."""
    heads, length = q.shape[1], q.shape[2]
    groups = heads // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    mask = _mask(length, window, q)
    if softcap is None:
        scores = torch.baddbmm(mask.expand(heads, length, length), q[0], k[0].transpose(1, 2), alpha=factor)
    else:
        scores = torch.tanh(torch.bmm(q[0], k[0].transpose(1, 2)) * (factor / softcap)) * softcap + mask
    weights = torch.softmax(scores, -1)
    if dropout:
        weights = F.dropout(weights, dropout)
    return torch.bmm(weights, v[0]).transpose(0, 1)[None]


_masks: dict[tuple[int | None, torch.dtype, torch.device], Tensor] = {}


def _mask(length: int, window: int | None, like: Tensor) -> Tensor:
    """Return minus infinity where a token may not look, shape (length, length); grown when needed and kept."""
    key = (window, like.dtype, like.device)
    known = _masks.get(key)
    if known is None or known.shape[0] < length:
        size = max(length, WRITTEN_OUT_TOKENS)
        hidden = torch.ones(size, size, dtype=torch.bool, device=like.device).triu(1)
        if window is not None:
            hidden |= torch.ones_like(hidden).tril(-window)
        known = torch.zeros(size, size, dtype=like.dtype, device=like.device).masked_fill_(hidden, float("-inf"))
        _masks[key] = known
    return known[:length, :length]
