"""A linear layer and its adapter as one operation.

peft adds the adapter's part in separate steps: four passes over the layer's output and input which, with sequences as
short as chats are, cost about as much as the large product itself. Here the small products are added while they are
computed.
"""

from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


class _AdaptedLinear(torch.autograd.Function):
    """x W' + bias + scale (x A') B', where W is frozen."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        flat = x.flatten(0, -2)
        hidden = flat @ down.t()
        out = functional.linear(flat, weight, bias)
        out.addmm_(hidden, up.t(), alpha=scale)
        ctx.save_for_backward(x, weight, down, up, hidden)
        ctx.scale = scale
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, Tensor, Tensor, None]:
        x, weight, down, up, hidden = ctx.saved_tensors
        flat, gradient = x.flatten(0, -2), gradients[0].flatten(0, -2)
        inner = torch.mm(gradient, up).mul_(ctx.scale)
        to_input = None
        if ctx.needs_input_grad[0]:
            to_input = (gradient @ weight).addmm_(inner, down).view_as(x)
        # (h' g)' and not g' h: a product with a long first side and a short second one takes three times as long
        to_up = (hidden.t() @ gradient).mul_(ctx.scale).t()
        return to_input, None, None, inner.t() @ flat, to_up, None


def adapted_linear(x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """Return ``x W' + bias + scale (x A') B'``.

    Args:
        x: shape (..., in), of the type of ``weight``.
        weight: W, frozen, shape (out, in).
        bias: shape (out,), frozen, or None.
        down: A, shape (rank, in), any float type; cast on the way, its gradient comes back in its own type.
        up: B, shape (out, rank); likewise.
        scale: factor of the adapter's part.
    Returns: shape (..., out).
    """
    out: Tensor = _AdaptedLinear.apply(x, weight, bias, down.to(weight.dtype), up.to(weight.dtype), scale)
    return out


def install(network: Any, adapter: str) -> int:
    """Let every adapted layer that is plain compute as one operation; returns how many do.

    Dropout, quantised and convolutional layers keep peft's way.
    """
    from peft.tuners.lora import Linear

    count = 0
    for module in network.modules():
        if type(module) is not Linear or type(module.base_layer) is not torch.nn.Linear:
            continue
        plain = not module.fan_in_fan_out and not module.lora_variant and not module.lora_bias[adapter]
        if plain and isinstance(module.lora_dropout[adapter], torch.nn.Identity):
            module.forward = MethodType(_forward(adapter), module)
            count += 1
    return count


def _forward(adapter: str) -> Any:
    def forward(module: Any, x: Tensor, *_arguments: Any, **_named: Any) -> Tensor:
        base = module.base_layer
        down, up = module.lora_A[adapter].weight, module.lora_B[adapter].weight
        return adapted_linear(x, base.weight, base.bias, down, up, module.scaling[adapter])

    return forward
