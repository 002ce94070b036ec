"""How long a job will take and how many steps it has, before it runs. Pure."""

import math
from dataclasses import dataclass

from services.chassis.jobs import Estimate
from services.training.domain import Job

REFERENCE_PARAMETERS = 135_000_000
FEW_STEPS = 100
START_MINUTES = 0.5
"""Start of a worker: imports, model and data."""

_FASTER, _SLOWER = 1.6, 0.5


@dataclass(frozen=True)
class MeasuredSpeed:
    """How fast this machine trains: real tokens a second for a model of 135M parameters, on all of its cores."""

    tokens_per_second: float = 450.0


@dataclass(frozen=True)
class JobEstimate(Estimate):
    """What a training job is expected to be."""

    steps: int
    tokens: int


def estimate(job: Job, speed: MeasuredSpeed) -> JobEstimate:
    """Return the estimate of a job whose data sets and hyperparameters are resolved.

    Time is tokens over speed, which falls with the size of the model; the range is a factor of 3 wide, since cores may
    be shared and rows differ in length.
    """
    values = job.hyperparameters
    rows, tokens = 0.0, 0.0
    for use in job.datasets:
        mean = use.token_count / use.row_count if use.row_count else 0.0
        rows += use.rows_used
        tokens += use.rows_used * min(mean, values.cutoff_length)
    kept = 1.0 - job.validation_ratio
    rows, tokens = rows * kept, tokens * kept
    batch = values.batch_size * values.gradient_accumulation * values.world_size
    steps = max(1, math.ceil(math.ceil(rows / batch) * values.epochs)) if rows else 0
    total = tokens * values.epochs
    pace = speed.tokens_per_second * REFERENCE_PARAMETERS / max(job.parameter_count, 1_000_000)
    minutes = total / pace / 60
    low, high = START_MINUTES + minutes / _FASTER, START_MINUTES * 2 + minutes / _SLOWER
    notes = [
        f"{steps} optimizer steps: {rows:.0f} rows x {values.epochs:g} epochs in batches of {batch}.",
        f"About {total:,.0f} tokens at {pace:,.0f} tokens a second.",
        f"Learning rate {values.learning_rate:g}, rank {values.lora_rank}, alpha {values.lora_alpha}.",
    ]
    if steps < FEW_STEPS:
        warning = f"Warning: {steps} steps are few; below {FEW_STEPS} a model learns little."
        notes.append(f"{warning} More epochs, a smaller batch or more rows help.")
    words = f"Fine-tune {job.model} for {steps} steps"
    return JobEstimate(round(low, 2), round(high, 2), words, tuple(notes), steps, int(total))
