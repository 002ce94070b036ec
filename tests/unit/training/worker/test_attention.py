"""Conversations in one row attend as if each were alone."""

import pytest
import torch
import torch.nn.functional as F

from services.training.worker import attention

pytestmark = pytest.mark.unit


def _heads(tokens: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(1, 6, tokens, 16, generator=generator, requires_grad=True),
        torch.randn(1, 2, tokens, 16, generator=generator, requires_grad=True),
        torch.randn(1, 2, tokens, 16, generator=generator, requires_grad=True),
    )


@pytest.mark.parametrize("written_out", [0, 512])
def test_each_span_is_what_it_is_alone(monkeypatch, written_out):
    monkeypatch.setattr(attention, "WRITTEN_OUT_TOKENS", written_out)
    q, k, v = _heads(30)
    bounds = (0, 7, 8, 30)
    together, _ = attention.spans_attention(torch.nn.Module(), q, k, v, None, bounds=bounds)
    for first, last in ((0, 7), (7, 8), (8, 30)):
        alone = F.scaled_dot_product_attention(
            q[:, :, first:last], k[:, :, first:last], v[:, :, first:last], is_causal=True, enable_gqa=True
        )
        assert torch.allclose(together[:, first:last], alone.transpose(1, 2), atol=1e-5)


def test_both_ways_have_the_same_gradients(monkeypatch):
    gradients = []
    for written_out in (0, 512):
        monkeypatch.setattr(attention, "WRITTEN_OUT_TOKENS", written_out)
        q, k, v = _heads(20, seed=3)
        out, _ = attention.spans_attention(torch.nn.Module(), q, k, v, None, bounds=(0, 5, 20))
        out.square().sum().backward()
        gradients.append((q.grad, k.grad, v.grad))
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_a_window_hides_what_is_far():
    q, k, v = _heads(12, seed=5)
    out, _ = attention.spans_attention(torch.nn.Module(), q, k, v, None, sliding_window=1, bounds=(0, 12))
    assert torch.allclose(out, v.repeat_interleave(3, 1).transpose(1, 2), atol=1e-6)  # a token sees itself alone
