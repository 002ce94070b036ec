"""What a job may ask: every bad value is found before anything is made, and named by its path."""

from __future__ import annotations

import re

from modelry.training.v1 import training_pb2 as pb
from services.chassis.errors import Invalid, Violation
from services.chassis.field_options import bound_words, ranges
from services.chassis.names import label_faults, name_faults
from services.training.domain import ComputeType, FlashAttention, Hyperparameters, Job

ID_PREFIXES = ("ftjob-",)
SUFFIX = re.compile(r"[a-z0-9-]{0,64}")
MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,127}")
MOST_DATASETS = 32

RANGES = ranges(pb.Hyperparameters.DESCRIPTOR)
"""The bounds of every number, from the protos."""
_USE_RANGES = ranges(pb.JobDataset.DESCRIPTOR)
_RATIO = ranges(pb.Job.DESCRIPTOR)["validation_ratio"]


def check(job: Job, *, gpus: int = 0, cpus: int = 0) -> None:
    """Refuse a job that cannot be right, naming every field; `gpus` and `cpus` are what the machine gives out.

    Raises: Invalid
    """
    violations = [*_texts(job), *_data(job), *_numbers(job.hyperparameters), *_machine(job.hyperparameters, gpus, cpus)]
    if violations:
        raise Invalid.of(violations)


def _texts(job: Job) -> list[Violation]:
    violations = list(label_faults(job.title, job.metadata, "job."))
    if job.name:
        violations += name_faults(job.name, "job.name", ID_PREFIXES)
    if job.publish_model_name:
        violations += name_faults(job.publish_model_name, "job.publish_on_success.model_name")
    if not SUFFIX.fullmatch(job.suffix):
        violations.append(Violation("job.suffix", f"job.suffix must match {SUFFIX.pattern}", "INVALID_NAME"))
    if job.max_cost is not None and job.max_cost < 0:
        violations.append(Violation("job.max_cost", "job.max_cost must not be negative", "OUT_OF_RANGE"))
    if len(job.output.prefix.encode()) > 1024 or job.output.prefix.startswith("/"):
        message = "job.output.prefix must not begin with a slash and have at most 1,024 bytes"
        violations.append(Violation("job.output.prefix", message))
    return violations


def _data(job: Job) -> list[Violation]:
    violations = []
    if not job.model:
        violations.append(Violation("job.model", "job.model is required", "REQUIRED_FIELD"))
    if not 1 <= len(job.datasets) <= MOST_DATASETS:
        message = f"job.datasets has {len(job.datasets)} entries, and must have 1 to {MOST_DATASETS}"
        violations.append(Violation("job.datasets", message, "REQUIRED_FIELD" if not job.datasets else "OUT_OF_RANGE"))
    uses = [(f"job.datasets[{index}]", use) for index, use in enumerate(job.datasets)]
    if job.validation_dataset is not None:
        uses.append(("job.validation_dataset", job.validation_dataset))
    for path, use in uses:
        if not use.ref:
            violations.append(Violation(f"{path}.ref", f"{path}.ref is required", "REQUIRED_FIELD"))
        for name, (low, high) in _USE_RANGES.items():
            violations += _range(f"{path}.{name}", getattr(use, name), low, high)
    if job.validation_dataset is not None and job.validation_ratio:
        message = "job.validation_ratio and job.validation_dataset exclude each other"
        violations.append(Violation("job.validation_ratio", message))
    return [*violations, *_range("job.validation_ratio", job.validation_ratio, *_RATIO)]


def _numbers(values: Hyperparameters) -> list[Violation]:
    violations = []
    for name, (low, high) in RANGES.items():
        value = getattr(values, name)
        if name != "learning_rate" or value:
            violations += _range(f"job.hyperparameters.{name}", value, low, high)
    for index, module in enumerate(values.target_modules):
        if not MODULE.fullmatch(module):
            path = f"job.hyperparameters.target_modules[{index}]"
            violations.append(Violation(path, f"{path} is {module!r}, which is no name of a layer"))
    return violations


def _machine(values: Hyperparameters, gpus: int, cpus: int) -> list[Violation]:
    violations = []
    if not gpus and values.compute_type is ComputeType.FP16:
        path = "job.hyperparameters.compute_type"
        violations.append(Violation(path, f"{path} FP16 needs a GPU, and this machine has none; use BF16", "NEEDS_GPU"))
    if not gpus and values.flash_attention is FlashAttention.FA2:
        path = "job.hyperparameters.flash_attention"
        violations.append(Violation(path, f"{path} FA2 needs a GPU, and this machine has none; use AUTO", "NEEDS_GPU"))
    most = gpus or cpus
    if most and values.world_size > most:
        path = "job.hyperparameters.world_size"
        what = "GPUs" if gpus else "CPU cores"
        message = f"{path} is {values.world_size}, and this machine gives out {most} {what}"
        violations.append(Violation(path, message, "OUT_OF_RANGE"))
    return violations


def _range(path: str, value: float, low: float, high: float) -> list[Violation]:
    if low <= value <= high:  # false for a NaN too
        return []
    return [Violation(path, f"{path} is {value:g}, and must be {bound_words(low, high)}", "OUT_OF_RANGE")]
