"""A whole checkpoint in a folder: ``adapter/`` to serve, and ``state/`` with all that the next step depends on.

Nothing in it is code: tensors are safetensors, the rest is JSON.
"""

import base64
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from services.chassis.errors import ModelryError

FORMAT = 1
STATE_FOLDER = "state"
TENSORS_FILE = "optimizer.safetensors"
POSITION_FILE = "position.json"
RANDOM_FILE = "random.json"


class ResumeRefused(ModelryError):
    """A checkpoint does not belong to this job's settings; the message says why."""

    default_reason = "CHECKPOINT_UNUSABLE"


@dataclass
class Position:
    """Where training is. ``settings`` is a digest of all that decides the order; another one cannot go on."""

    settings: str
    step: int = 0
    trained_tokens: int = 0
    best_loss: float | None = None
    evaluations_without_better: int = 0
    metrics: dict[str, float] = field(default_factory=dict)


def random_state() -> dict[str, Any]:
    """Return the state of every library that draws random numbers here, as JSON."""
    version, numbers, gauss = random.getstate()
    name, keys, *rest = numpy.random.get_state()
    result = {
        "python": [version, list(numbers), gauss],
        "numpy": [name, [int(key) for key in keys], *rest],
        "torch": base64.b64encode(torch.get_rng_state().numpy().tobytes()).decode(),
    }
    if torch.cuda.is_available():
        result["cuda"] = base64.b64encode(torch.cuda.get_rng_state().numpy().tobytes()).decode()
    return result


def set_random_state(content: Mapping[str, Any]) -> None:
    """Go on drawing from a state."""
    version, numbers, gauss = content["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = content["numpy"]
    numpy.random.set_state((name, numpy.array(keys, dtype=numpy.uint32), *rest))
    torch.set_rng_state(_bytes_tensor(content["torch"]))
    if torch.cuda.is_available() and "cuda" in content:
        torch.cuda.set_rng_state(_bytes_tensor(content["cuda"]))


def seed_all(seed: int, rank: int) -> None:
    """Begin all random numbers of a rank."""
    random.seed(f"{seed}/{rank}")
    numpy.random.seed((seed * 1_000_003 + rank) % 2**32)
    torch.manual_seed((seed * 1_000_003 + rank) % 2**63)


def write_state(
    folder: Path,
    tensors: Mapping[str, Tensor],
    position: Position,
    random_states: Sequence[Mapping[str, Any]],
    extra: Mapping[str, Any],
) -> None:
    """Write ``state/`` below the folder."""
    from safetensors.torch import save_file

    target = folder / STATE_FOLDER
    target.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, target / TENSORS_FILE)
    content = {"format": FORMAT, **asdict(position), "scaler": dict(extra), "ranks": len(random_states)}
    (target / POSITION_FILE).write_text(json.dumps(content, indent=2) + "\n")
    (target / RANDOM_FILE).write_text(json.dumps(list(random_states)))


@dataclass(frozen=True)
class Saved:
    """What ``write_state`` wrote."""

    position: Position
    tensors: dict[str, Tensor]
    random_states: list[dict[str, Any]]
    extra: dict[str, Any]


def read_state(folder: Path, settings: str) -> Saved:
    """Read ``state/`` of a checkpoint.

    Raises: ResumeRefused: it is of another format, or of a job with other data, order or adapter.
    """
    from safetensors.torch import load_file

    source = folder / STATE_FOLDER
    content = json.loads((source / POSITION_FILE).read_text())
    if content.pop("format") != FORMAT:
        raise ResumeRefused("this checkpoint has a format that this worker does not know")
    extra, _ = content.pop("scaler"), content.pop("ranks")
    position = Position(**content)
    if position.settings != settings:
        raise ResumeRefused("this checkpoint was made with other data, another order of it or another adapter")
    random_states = json.loads((source / RANDOM_FILE).read_text())
    return Saved(position, load_file(source / TENSORS_FILE), random_states, extra)


def _bytes_tensor(text: str) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
