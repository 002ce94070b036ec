"""Loss, its gradient and the noise of embeddings, against torch's own and worked values."""

import math

import pytest
import torch
import torch.nn.functional as F

from services.training.worker.losses import add_noise, label_loss

pytestmark = pytest.mark.unit


def test_the_sum_and_the_hits_of_equal_logits():
    loss, right = label_loss(torch.zeros(3, 8), torch.tensor([0, 3, 0]))
    assert float(loss) == pytest.approx(3 * math.log(8))
    assert int(right) == 2  # the first of equal logits counts as the highest


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_value_and_gradient_are_those_of_cross_entropy(dtype, tolerance):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(70, 300, generator=generator).mul(3).to(dtype)
    targets = torch.randint(0, 300, (70,), generator=generator)
    ours, theirs = logits.clone().requires_grad_(), logits.float().requires_grad_()
    loss, right = label_loss(ours, targets)
    (loss / 70).backward()
    expected = F.cross_entropy(theirs, targets)
    expected.backward()
    assert float(loss.detach()) / 70 == pytest.approx(float(expected), rel=1e-5)
    assert torch.allclose(ours.grad.float(), theirs.grad, rtol=tolerance, atol=tolerance / 70)
    assert int(right) == int((logits.float().argmax(-1) == targets).sum())


def test_noise_is_bounded_by_the_length_of_each_conversation():
    torch.manual_seed(0)
    noisy = add_noise(torch.zeros(1, 104, 16), (0, 4, 104), alpha=8.0)
    short, long = noisy[0, :4].abs().max(), noisy[0, 4:].abs().max()
    assert float(short) <= 8 / math.sqrt(4 * 16)
    assert float(long) <= 8 / math.sqrt(100 * 16)
    assert float(short) > float(long) > 0
