"""How gradients become a step: alone with AdamW, or with others by DeepSpeed's ZeRO. Both have one state.

The state is by name of weight and gathered, so that a job may go on with another number of ranks:
``{"master/NAME", "exp_avg/NAME", "exp_avg_sq/NAME"}`` and the number of steps.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from services.training.work_spec import Recipe
from services.training.worker.ranks import Ranks

MOMENTS = ("exp_avg", "exp_avg_sq")
BUCKET_WEIGHTS = 1 << 24
"""Of one exchange between ranks. DeepSpeed takes memory for them at the start: 500 million, unless it is told."""
Weights = Mapping[str, torch.nn.Parameter]


class Engine(Protocol):
    """One optimizer. A step is: ``backward`` of each micro-batch, the last marked, then ``step``."""

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add the gradients of a loss that is already divided by the labels of all ranks and micro-batches."""

    def step(self, rate: float) -> float:
        """Change the weights at a learning rate; returns the norm of the gradients before they were clipped."""

    def state(self) -> dict[str, Tensor]:
        """Return masters and moments, copied. Every rank has to call it."""

    def load(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Go on from a state."""

    def extra(self) -> dict[str, Any]:
        """Return what else is to be kept, as JSON: the loss scaler."""

    def load_extra(self, content: Mapping[str, Any]) -> None:
        """Go on from it."""


def groups(weights: Weights, how: Recipe) -> list[dict[str, Any]]:
    """Return the optimizer's groups; ``ratio`` is what the learning rate is multiplied by (LoRA+: for B alone).

    Source: Hayou et al. 2024, arXiv:2402.12354.
    """
    if not how.lora_plus_ratio:
        return [{"params": list(weights.values()), "ratio": 1.0}]
    second = {name for name in weights if "lora_B" in name or "lora_embedding_B" in name}
    return [
        {"params": [weight for name, weight in weights.items() if name not in second], "ratio": 1.0},
        {"params": [weight for name, weight in weights.items() if name in second], "ratio": how.lora_plus_ratio},
    ]


def make(weights: Weights, how: Recipe, ranks: Ranks, device: torch.device) -> Engine:
    """Return the engine for this number of ranks."""
    if ranks.size == 1:
        return Alone(weights, how, device)
    return Sharded(weights, how)


def _adamw(weights: Weights, how: Recipe) -> torch.optim.AdamW:
    return torch.optim.AdamW(groups(weights, how), lr=0.0, weight_decay=how.weight_decay, fused=True)


def _set_rate(param_groups: Sequence[dict[str, Any]], rate: float) -> None:
    for group in param_groups:
        group["lr"] = rate * group["ratio"]


class Alone:
    """AdamW in one process; a loss scaler with FP16."""

    def __init__(self, weights: Weights, how: Recipe, device: torch.device) -> None:
        self._weights = weights
        self._clip = how.max_gradient_norm
        self._optimizer = _adamw(weights, how)
        self._scaler = torch.amp.GradScaler(device.type, enabled=how.compute_type == "FP16")

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """See ``Engine``."""
        self._scaler.scale(loss).backward()

    def step(self, rate: float) -> float:
        """See ``Engine``."""
        _set_rate(self._optimizer.param_groups, rate)
        self._scaler.unscale_(self._optimizer)
        norm = torch.nn.utils.clip_grad_norm_(list(self._weights.values()), self._clip or float("inf"))
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def state(self) -> dict[str, Tensor]:
        """See ``Engine``."""
        result: dict[str, Tensor] = {}
        for name, weight in self._weights.items():
            result[f"master/{name}"] = weight.detach().to("cpu", copy=True)
            own = self._optimizer.state.get(weight, {})
            for moment in MOMENTS:
                value = own.get(moment, torch.zeros_like(weight))
                result[f"{moment}/{name}"] = value.detach().to("cpu", copy=True)
        return result

    def load(self, state: Mapping[str, Tensor], steps: int) -> None:
        """See ``Engine``."""
        for name, weight in self._weights.items():
            weight.data.copy_(state[f"master/{name}"])
            moments = {moment: state[f"{moment}/{name}"].to(weight.device, copy=True) for moment in MOMENTS}
            self._optimizer.state[weight] = {
                "step": torch.tensor(float(steps), device=weight.device),
                **moments,
            }

    def extra(self) -> dict[str, Any]:
        """See ``Engine``."""
        return self._scaler.state_dict()

    def load_extra(self, content: Mapping[str, Any]) -> None:
        """See ``Engine``."""
        if content and self._scaler.is_enabled():
            self._scaler.load_state_dict(dict(content))


class Sharded:
    """DeepSpeed over the adapter's weights: the frozen base needs no optimizer, so nothing of it is sharded.

    DeepSpeed averages over ranks; losses here are parts of one sum, so they are multiplied back.
    """

    def __init__(self, weights: Weights, how: Recipe) -> None:
        import deepspeed

        self._weights = weights
        self._size = torch.distributed.get_world_size()
        holder = torch.nn.Module()
        for number, weight in enumerate(weights.values()):
            holder.register_parameter(f"weight_{number}", weight)
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=holder, optimizer=_adamw(weights, how), config=deepspeed_config(how, self._size)
        )

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """See ``Engine``."""
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(loss * self._size, scale_wrt_gas=False)

    def step(self, rate: float) -> float:
        """See ``Engine``."""
        _set_rate(self._optimizer.param_groups, rate)
        self._engine.step()
        return float(self._engine.get_global_grad_norm() or 0.0)

    def state(self) -> dict[str, Tensor]:
        """See ``Engine``."""
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        result: dict[str, Tensor] = {}
        for name, weight in self._weights.items():
            result[f"master/{name}"] = safe_get_full_fp32_param(weight).detach().to("cpu", copy=True)
            for moment in MOMENTS:
                value = safe_get_full_optimizer_state(weight, moment)
                value = torch.zeros_like(weight) if value is None else value
                result[f"{moment}/{name}"] = value.detach().to("cpu", copy=True)
        return result

    def load(self, state: Mapping[str, Tensor], steps: int) -> None:
        """See ``Engine``."""
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        inner = self._optimizer.optimizer
        for group in inner.param_groups:
            for part in group["params"]:  # this rank's part of the flat masters; AdamW makes moments at its first step
                inner.state[part] = {"step": torch.tensor(float(steps), device=part.device)} | {
                    moment: torch.zeros_like(part) for moment in MOMENTS
                }
        self._optimizer._lazy_init_hp_params_optimizer_state()
        for name, weight in self._weights.items():
            weight.data.copy_(state[f"master/{name}"])
            safe_set_full_fp32_param(weight, state[f"master/{name}"].to(weight.device))
            for moment in MOMENTS:
                safe_set_full_optimizer_state(weight, state[f"{moment}/{name}"].to(weight.device), moment)

    def extra(self) -> dict[str, Any]:
        """See ``Engine``."""
        return {}

    def load_extra(self, content: Mapping[str, Any]) -> None:
        """See ``Engine``."""


def deepspeed_config(how: Recipe, world_size: int) -> dict[str, Any]:
    """Return DeepSpeed's settings. Its own accumulation is off: the loop says which micro-batch is the last."""
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "train_batch_size": world_size,
        "gradient_clipping": how.max_gradient_norm,
        # The weights that stage 3 would divide further are the adapter's alone: a few megabytes.
        "zero_optimization": {
            "stage": min(how.deepspeed_stage, 2),
            "overlap_comm": False,
            "reduce_bucket_size": BUCKET_WEIGHTS,
            "allgather_bucket_size": BUCKET_WEIGHTS,
        },
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
    }
