"""What a job may ask: every bad value is found before anything is made, and named by its path."""

import re
from collections.abc import Iterator

from modelry.training.v1 import training_pb2 as pb
from services.chassis.errors import Invalid, Violation
from services.chassis.field_options import bound_words, ranges
from services.chassis.names import metadata_faults, name_faults
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


def _texts(job: Job) -> Iterator[Violation]:
    yield from metadata_faults(job.metadata, "job.")
    if job.name:
        yield from name_faults(job.name, "job.name", ID_PREFIXES)
    if job.publish_model_name:
        yield from name_faults(job.publish_model_name, "job.publish_on_success.model_name")
    if not SUFFIX.fullmatch(job.suffix):
        yield Violation.of("job.suffix", f"must match {SUFFIX.pattern}", "INVALID_NAME")
    if job.max_cost is not None and job.max_cost < 0:
        yield Violation.of("job.max_cost", "must not be negative", "OUT_OF_RANGE")
    if len(job.output.prefix.encode()) > 1024 or job.output.prefix.startswith("/"):
        yield Violation.of("job.output.prefix", "must not begin with a slash and have at most 1,024 bytes")


def _data(job: Job) -> Iterator[Violation]:
    if not job.model:
        yield Violation.of("job.model", "is required", "REQUIRED_FIELD")
    if not 1 <= len(job.datasets) <= MOST_DATASETS:
        words = f"has {len(job.datasets)} entries, and must have 1 to {MOST_DATASETS}"
        yield Violation.of("job.datasets", words, "REQUIRED_FIELD" if not job.datasets else "OUT_OF_RANGE")
    for path, use in job.uses:
        if not use.ref:
            yield Violation.of(f"{path}.ref", "is required", "REQUIRED_FIELD")
        for name, bounds in _USE_RANGES.items():
            yield from _range(f"{path}.{name}", getattr(use, name), *bounds)
    if job.validation_dataset is not None and job.validation_ratio:
        yield Violation.of("job.validation_ratio", "and job.validation_dataset exclude each other")
    yield from _range("job.validation_ratio", job.validation_ratio, *_RATIO)


def _numbers(values: Hyperparameters) -> Iterator[Violation]:
    for name, bounds in RANGES.items():
        value = getattr(values, name)
        if name != "learning_rate" or value:
            yield from _range(f"job.hyperparameters.{name}", value, *bounds)
    for index, module in enumerate(values.target_modules):
        if not MODULE.fullmatch(module):
            yield Violation.of(
                f"job.hyperparameters.target_modules[{index}]", f"is {module!r}, which is no name of a layer"
            )


def _machine(values: Hyperparameters, gpus: int, cpus: int) -> Iterator[Violation]:
    path = "job.hyperparameters"
    if not gpus and values.compute_type is ComputeType.FP16:
        words = "FP16 needs a GPU, and this machine has none; use BF16"
        yield Violation.of(f"{path}.compute_type", words, "NEEDS_GPU")
    if not gpus and values.flash_attention is FlashAttention.FA2:
        yield Violation.of(
            f"{path}.flash_attention", "FA2 needs a GPU, and this machine has none; use AUTO", "NEEDS_GPU"
        )
    most, what = (gpus, "GPUs") if gpus else (cpus, "CPU cores")
    if most and values.world_size > most:
        words = f"is {values.world_size}, and this machine gives out {most} {what}"
        yield Violation.of(f"{path}.world_size", words, "OUT_OF_RANGE")


def _range(path: str, value: float, low: float, high: float) -> Iterator[Violation]:
    if not low <= value <= high:  # so for a NaN too
        yield Violation.of(path, f"is {value:g}, and must be {bound_words(low, high)}", "OUT_OF_RANGE")
