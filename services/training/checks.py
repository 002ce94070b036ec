"""What a job may ask: every bad value is found before anything is made, and named by its path. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from services.chassis.errors import Invalid, Violation
from services.training.domain import ComputeType, FlashAttention, Hyperparameters, Job

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
SUFFIX = re.compile(r"[a-z0-9-]{0,64}")
MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,127}")
MOST_DATASETS = 32

RANGES: Mapping[str, tuple[float, float]] = {
    "learning_rate": (1e-8, 1),
    "epochs": (1e-3, 1000),
    "batch_size": (1, 1024),
    "gradient_accumulation": (1, 1024),
    "checkpoint_interval": (0, 1_000_000),
    "checkpoints_kept": (1, 100),
    "logging_interval": (1, 10_000),
    "cutoff_length": (16, 1_048_576),
    "warmup_ratio": (0, 1),
    "lora_rank": (1, 1024),
    "lora_alpha": (1, 4096),
    "lora_dropout": (0, 0.9),
    "lora_plus_ratio": (0, 1000),
    "weight_decay": (0, 1),
    "max_gradient_norm": (0, 1000),
    "neftune_alpha": (0, 100),
    "deepspeed_stage": (1, 3),
    "world_size": (1, 64),
    "early_stopping_patience": (0, 1000),
    "seed": (0, 2**63 - 1),
}
"""The range of every number, as the proto documents it. A learning rate of 0 means `by the size of the model`."""


def check(job: Job, *, gpus: int = 0, cpus: int = 0) -> None:
    """Refuses a job that cannot be right, naming every field; `gpus` and `cpus` are what the machine gives out.

    Raises: Invalid
    """
    violations = [*_texts(job), *_data(job), *_numbers(job.hyperparameters), *_machine(job.hyperparameters, gpus, cpus)]
    if violations:
        text = "; ".join(violation.message for violation in violations[:20])
        raise Invalid(f"{text}.", reason=violations[0].reason, violations=violations[:20])


def _texts(job: Job) -> list[Violation]:
    found = []
    for path, text in (("job.name", job.name), ("job.publish_on_success.model_name", job.publish_model_name)):
        if text and not NAME.fullmatch(text):
            found.append(Violation(path, f"{path} is {text!r}, and must match {NAME.pattern}", "INVALID_NAME"))
    if not SUFFIX.fullmatch(job.suffix):
        found.append(Violation("job.suffix", f"job.suffix must match {SUFFIX.pattern}", "INVALID_NAME"))
    found += check_texts(job.title, job.metadata)
    if job.max_cost is not None and job.max_cost < 0:
        found.append(Violation("job.max_cost", "job.max_cost must not be negative", "OUT_OF_RANGE"))
    if len(job.output.prefix.encode()) > 1024 or job.output.prefix.startswith("/"):
        message = "job.output.prefix must not begin with a slash and have at most 1,024 bytes"
        found.append(Violation("job.output.prefix", message))
    return found


def check_texts(title: str, metadata: Mapping[str, str]) -> list[Violation]:
    """What is wrong with the free texts of a job."""
    found = []
    if len(title) > 200:
        found.append(Violation("job.title", "job.title has more than 200 characters"))
    if len(metadata) > 16:
        found.append(Violation("job.metadata", "job.metadata has more than 16 pairs"))
    for key, value in metadata.items():
        if not 0 < len(key) <= 64 or len(value) > 512:
            message = f"job.metadata[{key[:70]}] is too long: keys have 1 to 64 characters, values up to 512"
            found.append(Violation(f"job.metadata[{key[:70]}]", message))
    return found


def _data(job: Job) -> list[Violation]:
    found = []
    if not job.model:
        found.append(Violation("job.model", "job.model is required", "REQUIRED_FIELD"))
    if not 1 <= len(job.datasets) <= MOST_DATASETS:
        message = f"job.datasets has {len(job.datasets)} entries, and must have 1 to {MOST_DATASETS}"
        found.append(Violation("job.datasets", message, "REQUIRED_FIELD" if not job.datasets else "OUT_OF_RANGE"))
    uses = [(f"job.datasets[{index}]", use) for index, use in enumerate(job.datasets)]
    if job.validation_dataset is not None:
        uses.append(("job.validation_dataset", job.validation_dataset))
    for path, use in uses:
        if not use.ref:
            found.append(Violation(f"{path}.ref", f"{path}.ref is required", "REQUIRED_FIELD"))
        found += _range(f"{path}.max_samples", use.max_samples, 0, 2**62)
        found += _range(f"{path}.weight", use.weight, 0, 100)
    if job.validation_dataset is not None and job.validation_ratio:
        message = "job.validation_ratio and job.validation_dataset exclude each other"
        found.append(Violation("job.validation_ratio", message))
    return [*found, *_range("job.validation_ratio", job.validation_ratio, 0, 0.5)]


def _numbers(values: Hyperparameters) -> list[Violation]:
    found = []
    for name, (low, high) in RANGES.items():
        value = getattr(values, name)
        if name != "learning_rate" or value:
            found += _range(f"job.hyperparameters.{name}", value, low, high)
    for index, module in enumerate(values.target_modules):
        if not MODULE.fullmatch(module):
            path = f"job.hyperparameters.target_modules[{index}]"
            found.append(Violation(path, f"{path} is {module!r}, which is no name of a layer"))
    return found


def _machine(values: Hyperparameters, gpus: int, cpus: int) -> list[Violation]:
    found = []
    if not gpus and values.compute_type is ComputeType.FP16:
        path = "job.hyperparameters.compute_type"
        found.append(Violation(path, f"{path} FP16 needs a GPU, and this machine has none; use BF16", "NEEDS_GPU"))
    if not gpus and values.flash_attention is FlashAttention.FA2:
        path = "job.hyperparameters.flash_attention"
        found.append(Violation(path, f"{path} FA2 needs a GPU, and this machine has none; use AUTO", "NEEDS_GPU"))
    most = gpus or cpus
    if most and values.world_size > most:
        path = "job.hyperparameters.world_size"
        what = "GPUs" if gpus else "CPU cores"
        message = f"{path} is {values.world_size}, and this machine gives out {most} {what}"
        found.append(Violation(path, message, "OUT_OF_RANGE"))
    return found


def _range(path: str, value: float, low: float, high: float) -> list[Violation]:
    if low <= value <= high:  # false for a NaN too
        return []
    return [Violation(path, f"{path} is {value:g}, and must be from {low:g} to {high:g}", "OUT_OF_RANGE")]
