"""Learning rate over the steps. Pure."""

import math


def factor(step: int, total: int, warmup_ratio: float, shape: str) -> float:
    """Return the part of the peak learning rate that a step uses.

    Args:
        step: number of the step, from 0.
        total: steps in all.
        warmup_ratio: part of the steps in which the rate rises in equal parts, reaching the peak at its last.
        shape: COSINE (half a cosine down to zero), LINEAR (a line down to zero) or CONSTANT after that.
    Returns: 0 to 1. Every step learns something: the first is above zero, and so is the last.
    Raises: ValueError: unknown shape.
    """
    warmup = math.ceil(total * warmup_ratio)
    if step < warmup:
        return (step + 1) / warmup
    if shape == "CONSTANT":
        return 1.0
    done = (step - warmup) / max(1, total - warmup)
    if shape == "LINEAR":
        return 1.0 - done
    if shape == "COSINE":
        return 0.5 * (1.0 + math.cos(math.pi * done))
    raise ValueError(f"unknown learning-rate scheduler {shape!r}")
