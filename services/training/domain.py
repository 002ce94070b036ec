"""Fine-tuning jobs and their checkpoints: what they are, what may be asked, and what is kept. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from services.chassis.jobs import PricedJob
from services.chassis.locations import ObjectLocation
from services.chassis.objects import StoredFiles

SMALL_MODEL_PARAMETERS = 500_000_000
SMALL_MODEL_RATE = 1e-3
LARGE_MODEL_RATE = 2e-4
NO_FILES = StoredFiles("", "", "")


class ComputeType(StrEnum):
    """Number type of the computation."""

    BF16 = "BF16"
    FP16 = "FP16"
    FP32 = "FP32"


class Schedule(StrEnum):
    """Learning rate over the steps."""

    COSINE = "COSINE"
    LINEAR = "LINEAR"
    CONSTANT = "CONSTANT"


class FlashAttention(StrEnum):
    """Attention implementation."""

    AUTO = "AUTO"
    DISABLED = "DISABLED"
    FA2 = "FA2"


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """How to train, every default filled in. Field names are the proto's; a zero learning rate is not decided yet."""

    learning_rate: float = 0.0
    epochs: float = 3.0
    batch_size: int = 8
    gradient_accumulation: int = 1
    compute_type: ComputeType = ComputeType.BF16
    checkpoint_interval: int = 0
    checkpoints_kept: int = 3
    logging_interval: int = 1
    cutoff_length: int = 2048
    lr_scheduler: Schedule = Schedule.COSINE
    warmup_ratio: float = 0.05
    flash_attention: FlashAttention = FlashAttention.AUTO
    lora_rank: int = 8
    lora_alpha: int = 16
    lora_dropout: float = 0.0
    lora_plus_ratio: float = 0.0
    weight_decay: float = 0.0
    max_gradient_norm: float = 1.0
    neftune_alpha: float = 0.0
    target_modules: tuple[str, ...] = ()
    deepspeed_stage: int = 1
    world_size: int = 1
    early_stopping_patience: int = 0
    seed: int = 42

    def for_model(self, parameter_count: int, context_length: int) -> Hyperparameters:
        """Decide what depends on the model: the learning rate, and a cut-off inside its context."""
        rate = self.learning_rate
        if not rate:
            rate = SMALL_MODEL_RATE if parameter_count < SMALL_MODEL_PARAMETERS else LARGE_MODEL_RATE
        cutoff = min(self.cutoff_length, context_length) if context_length else self.cutoff_length
        return replace(self, learning_rate=rate, cutoff_length=cutoff)


@dataclass(frozen=True, kw_only=True)
class DatasetUse:
    """A data set of a job: what was typed, and what it became when the job was made."""

    ref: str
    max_samples: int = 0
    weight: float = 0.0
    version_id: str = ""
    label: str = ""
    """Its name and number, for people."""
    files: StoredFiles | None = None
    file: str = ""
    row_count: int = 0
    token_count: int = 0
    """Estimated tokens of all rows."""

    @property
    def rows_used(self) -> float:
        """Rows of one epoch."""
        rows = min(self.row_count, self.max_samples) if self.max_samples else self.row_count
        return rows * (self.weight or 1.0)


@dataclass(frozen=True, kw_only=True)
class Job(PricedJob):
    """One fine-tuning run."""

    model: str = ""
    model_version_id: str = ""
    parameter_count: int = 0
    datasets: tuple[DatasetUse, ...] = ()
    validation_dataset: DatasetUse | None = None
    validation_ratio: float = 0.0
    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
    output: ObjectLocation = field(default_factory=ObjectLocation)
    publish_model_name: str = ""
    """Model that gets the best checkpoint when the job succeeds; empty: none."""
    suffix: str = ""
    best_checkpoint_id: str = ""
    published_model_version_id: str = ""

    @property
    def uses(self) -> list[tuple[str, DatasetUse]]:
        """Every data set with its path in a request, the validation set's last."""
        uses = [(f"job.datasets[{index}]", use) for index, use in enumerate(self.datasets)]
        return [*uses, *([("job.validation_dataset", self.validation_dataset)] if self.validation_dataset else [])]

    @property
    def dataset_version_ids(self) -> tuple[str, ...]:
        """Every data set version that it reads, the validation set's last."""
        return tuple(dict.fromkeys(use.version_id for _, use in self.uses))


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A whole state of training, recorded with its manifest: from then on it exists."""

    id: str
    project: str
    job_id: str
    create_time: datetime
    version: int = 1
    attempt: int = 1
    step: int = 0
    epoch: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    files: StoredFiles = NO_FILES
    digest: str = ""
    size_bytes: int = 0
    chat_fingerprint: str = ""
    model_version_ids: tuple[str, ...] = ()
    """Versions that were published from it."""


VALIDATION_LOSS = "validation_loss"


def is_better(new: Checkpoint, best: Checkpoint | None) -> bool:
    """Return whether a checkpoint is its job's best so far: by validation loss where there is one, else the newest."""
    if best is None:
        return True
    loss, least = new.metrics.get(VALIDATION_LOSS), best.metrics.get(VALIDATION_LOSS)
    if loss is None or least is None:
        return least is None
    return loss < least


def to_drop(checkpoints: Sequence[Checkpoint], kept: int, protected: set[str]) -> list[Checkpoint]:
    """Return the checkpoints beyond the newest `kept`, without those protected (the best, the one to resume)."""
    newest_first = sorted(checkpoints, key=lambda one: (one.step, one.attempt), reverse=True)
    return [one for one in newest_first[kept:] if one.id not in protected]
