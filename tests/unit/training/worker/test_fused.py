"""A layer and its adapter as one operation are what peft computes in steps."""

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from services.training.worker import fused

pytestmark = pytest.mark.unit


def network(dropout: float = 0.0, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Linear(24, 40), torch.nn.Tanh(), torch.nn.Linear(40, 16, bias=False)).to(dtype)
    config = LoraConfig(r=4, lora_alpha=12, target_modules=["0", "2"], init_lora_weights=False, lora_dropout=dropout)
    return get_peft_model(base, config, autocast_adapter_dtype=True)


def gradients(model: Any, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
    x = x.clone().requires_grad_()
    out = model(x)
    out.float().square().sum().backward()
    assert x.grad is not None
    return out.detach(), {n: p.grad for n, p in model.named_parameters() if p.requires_grad}, x.grad


def test_outputs_and_gradients_are_those_of_peft() -> None:
    theirs = network()
    ours = copy.deepcopy(theirs)
    assert fused.install(ours, "default") == 2
    x = torch.randn(1, 9, 24)
    out, of_weights, of_input = gradients(ours, x)
    expected, weights_expected, input_expected = gradients(theirs, x)
    assert torch.allclose(out, expected, atol=1e-5)
    assert torch.allclose(of_input, input_expected, atol=1e-4)
    assert of_weights.keys() == weights_expected.keys()
    for name, gradient in of_weights.items():
        assert torch.allclose(gradient, weights_expected[name], rtol=1e-4, atol=1e-4), name


def test_masters_stay_fp32_beside_a_bf16_base() -> None:
    model = network(dtype=torch.bfloat16)
    assert fused.install(model, "default") == 2
    out, of_weights, _ = gradients(model, torch.randn(1, 9, 24, dtype=torch.bfloat16))
    assert out.dtype is torch.bfloat16
    assert {gradient.dtype for gradient in of_weights.values()} == {torch.float32}


def test_layers_with_dropout_are_left_to_peft() -> None:
    assert fused.install(network(dropout=0.1), "default") == 0
