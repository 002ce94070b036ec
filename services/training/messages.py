"""Messages of the API to values and back."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

from modelry.common.v1 import common_pb2
from modelry.training.v1 import internal_pb2
from modelry.training.v1 import training_pb2 as pb
from services.chassis.clock import now
from services.chassis.jobs import JobView, Progress, State
from services.chassis.proto_values import amount_of, message_of, money_of, timestamp_of, value_of
from services.training.domain import Checkpoint, Hyperparameters, Job
from services.training.specs import adapter_of

_METRICS = (
    "epoch", "loss", "validation_loss", "token_accuracy", "learning_rate", "gradient_norm", "tokens_per_second",
)  # fmt: skip
"""Newest values that the progress of a job shows."""


def draft_of(message: pb.Job, project: str) -> Job:
    """Return what a caller asks for, defaults filled in. Output-only fields are not looked at."""
    moment = now()
    return value_of(
        Job,
        message,
        id="",
        project=project,
        create_time=moment,
        update_time=moment,
        state=State.VALIDATING,
        hyperparameters=hyperparameters_of(message.hyperparameters),
        publish_model_name=message.publish_on_success.model_name,
        max_cost=amount_of(message.max_cost, "job.max_cost") if message.HasField("max_cost") else None,
    )


def hyperparameters_of(message: pb.Hyperparameters) -> Hyperparameters:
    """Return the hyperparameters, with every default that does not depend on the model."""
    values = value_of(Hyperparameters, message)
    return values if message.lora_alpha else replace(values, lora_alpha=2 * values.lora_rank)


def spec_digest(message: pb.Job, draft: Job) -> str:
    """Return the digest of what a quote is for: all that makes the work, nothing of what only names or limits it."""
    spec = pb.Job(
        model=message.model,
        datasets=message.datasets,
        validation_dataset=message.validation_dataset if message.HasField("validation_dataset") else None,
        validation_ratio=message.validation_ratio,
        hyperparameters=message_of(pb.Hyperparameters, draft.hyperparameters),
        output=message.output if message.HasField("output") else None,
    )
    for use in spec.datasets:
        use.ClearField("version_id")
    if spec.HasField("validation_dataset"):
        spec.validation_dataset.ClearField("version_id")
    return hashlib.sha256(spec.SerializeToString(deterministic=True)).hexdigest()


def job_message(view: JobView[Job]) -> pb.Job:
    """Return a job as the API shows it."""
    job = view.job
    publishes = pb.PublishOnSuccess(model_name=job.publish_model_name) if job.publish_model_name else None
    return message_of(
        pb.Job,
        job,
        publish_on_success=publishes,
        cost=money_of(job.cost(view.run_seconds)),
        progress=progress_message(view.progress, view.values),
        attempt_count=job.attempt,
        finish_time=timestamp_of(job.end_time),
    )


def progress_message(progress: Progress | None, values: Mapping[str, float]) -> pb.JobProgress:
    """Return the progress that the worker told, with the newest values of its metrics."""
    message = pb.JobProgress(trained_tokens=int(values.get("trained_tokens", 0)))
    for name in _METRICS:
        if name in values:
            setattr(message, name, values[name])
    if progress is not None:
        message.phase = progress.phase
        if progress.unit == "steps":  # before the first step the worker counts bytes and rows
            message.step, message.total_steps = int(progress.done), int(progress.total)
        if progress.eta_seconds is not None:
            message.eta.FromMilliseconds(int(Decimal(str(progress.eta_seconds)) * 1000))
    return message


def checkpoint_message(checkpoint: Checkpoint, job: Job) -> pb.Checkpoint:
    """Return a checkpoint as the API shows it."""
    location = message_of(common_pb2.ObjectLocation, checkpoint.files)
    return message_of(pb.Checkpoint, checkpoint, best=checkpoint.id == job.best_checkpoint_id, location=location)


def resolved_message(checkpoint: Checkpoint, job: Job) -> internal_pb2.ResolveCheckpointResponse:
    """Return where the servable adapter of a checkpoint is."""
    return internal_pb2.ResolveCheckpointResponse(
        checkpoint_id=checkpoint.id,
        job_id=job.id,
        base_model_version_id=job.model_version_id,
        step=checkpoint.step,
        **vars(adapter_of(checkpoint)),
    )
