"""Messages of the API to values and back."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration

from modelry.training.v1 import internal_pb2
from modelry.training.v1 import training_pb2 as pb
from services.chassis.clock import now
from services.chassis.jobs import (
    Progress,
    State,
)
from services.chassis.locations import ObjectLocation
from services.chassis.proto_values import amount_of, failure_of, location_message, location_of, money_of, timestamp_of
from services.training.domain import (
    Checkpoint,
    ComputeType,
    DatasetUse,
    FlashAttention,
    Hyperparameters,
    Job,
    Schedule,
)
from services.training.specs import adapter_of

E = TypeVar("E", bound=enum.StrEnum)
_WHOLE = (
    "batch_size",
    "gradient_accumulation",
    "checkpoints_kept",
    "logging_interval",
    "cutoff_length",
    "lora_rank",
    "deepspeed_stage",
    "world_size",
)
"""Numbers of which zero means the default."""
_PLAIN = (
    "learning_rate",
    "checkpoint_interval",
    "lora_dropout",
    "lora_plus_ratio",
    "weight_decay",
    "neftune_alpha",
    "early_stopping_patience",
)
"""Numbers of which zero is a value."""
_OPTIONAL = ("warmup_ratio", "max_gradient_norm", "seed")


def draft_of(message: pb.Job, project: str) -> Job:
    """Return what a caller asks for, defaults filled in. Output-only fields are not looked at."""
    moment = now()
    has: Callable[[Any], bool] = message.HasField
    return Job(
        id="",
        project=project,
        create_time=moment,
        update_time=moment,
        state=State.VALIDATING,
        name=message.name,
        title=message.title,
        metadata=dict(message.metadata),
        model=message.model,
        datasets=tuple(_use_of(use) for use in message.datasets),
        validation_dataset=_use_of(message.validation_dataset) if has("validation_dataset") else None,
        validation_ratio=message.validation_ratio,
        hyperparameters=hyperparameters_of(message.hyperparameters),
        output=location_of(message.output),
        publish_model_name=message.publish_on_success.model_name,
        suffix=message.suffix,
        quote_id=message.quote_id,
        max_cost=amount_of(message.max_cost, "job.max_cost") if has("max_cost") else None,
    )


def _use_of(message: pb.JobDataset) -> DatasetUse:
    return DatasetUse(ref=message.ref, max_samples=message.max_samples, weight=message.weight)


def hyperparameters_of(message: pb.Hyperparameters) -> Hyperparameters:
    """Return the hyperparameters, with every default that does not depend on the model."""
    values: dict[str, Any] = {name: getattr(message, name) for name in _PLAIN}
    values |= {name: getattr(message, name) for name in _WHOLE if getattr(message, name)}
    has: Callable[[Any], bool] = message.HasField
    values |= {name: getattr(message, name) for name in _OPTIONAL if has(name)}
    if message.epochs:
        values["epochs"] = message.epochs
    rank = message.lora_rank or Hyperparameters().lora_rank
    values["lora_alpha"] = message.lora_alpha or 2 * rank
    return Hyperparameters(
        **values,
        compute_type=_word(ComputeType, pb.Hyperparameters.ComputeType.Name(message.compute_type)),
        lr_scheduler=_word(Schedule, pb.Hyperparameters.Scheduler.Name(message.lr_scheduler)),
        flash_attention=_word(FlashAttention, pb.Hyperparameters.FlashAttention.Name(message.flash_attention)),
        target_modules=tuple(message.target_modules),
    )


def _word(kind: type[E], name: str) -> E:
    """Return the member of that name; the unspecified one is the first member."""
    return kind[name] if name in kind.__members__ else next(iter(kind))


def spec_digest(message: pb.Job, draft: Job) -> str:
    """Return the digest of what a quote is for: all that makes the work, nothing of what only names or limits it."""
    spec = pb.Job()
    has: Callable[[Any], bool] = message.HasField
    for name in ("model", "datasets", "validation_dataset", "validation_ratio", "output"):
        if name == "datasets":
            spec.datasets.extend(message.datasets)
        elif message.DESCRIPTOR.fields_by_name[name].message_type is None:
            setattr(spec, name, getattr(message, name))
        elif has(name):
            getattr(spec, name).CopyFrom(getattr(message, name))
    spec.hyperparameters.CopyFrom(hyperparameters_message(draft.hyperparameters))
    for use in spec.datasets:
        use.ClearField("version_id")
    if spec.HasField("validation_dataset"):
        spec.validation_dataset.ClearField("version_id")
    return hashlib.sha256(spec.SerializeToString(deterministic=True)).hexdigest()


def hyperparameters_message(values: Hyperparameters) -> pb.Hyperparameters:
    """Return the hyperparameters as the API shows them."""
    message = pb.Hyperparameters(
        compute_type=pb.Hyperparameters.ComputeType.Value(values.compute_type),
        lr_scheduler=pb.Hyperparameters.Scheduler.Value(values.lr_scheduler),
        flash_attention=pb.Hyperparameters.FlashAttention.Value(values.flash_attention),
        target_modules=list(values.target_modules),
        epochs=values.epochs,
        lora_alpha=values.lora_alpha,
    )
    for name in (*_PLAIN, *_WHOLE, *_OPTIONAL):
        setattr(message, name, getattr(values, name))
    return message


def job_message(job: Job, progress: Progress | None, values: Mapping[str, float], run_seconds: float) -> pb.Job:
    """Return a job as the API shows it."""
    message = pb.Job(
        id=job.id,
        name=job.name,
        title=job.title,
        metadata=job.metadata,
        etag=str(job.version),
        state=pb.Job.State.Value(job.state),
        model=job.model,
        model_version_id=job.model_version_id,
        datasets=[_use_message(use) for use in job.datasets],
        validation_ratio=job.validation_ratio,
        hyperparameters=hyperparameters_message(job.hyperparameters),
        output=location_message(job.output),
        quote_id=job.quote_id,
        cost=money_of(job.cost(run_seconds)),
        progress=progress_message(progress, values),
        attempt_count=job.attempt,
        best_checkpoint_id=job.best_checkpoint_id,
        published_model_version_id=job.published_model_version_id,
        version=job.version,
        cause=job.cause,
        create_time=timestamp_of(job.create_time),
        start_time=timestamp_of(job.start_time),
        finish_time=timestamp_of(job.end_time),
        max_cost=money_of(job.max_cost),
        failure=failure_of(job.failure),
        suffix=job.suffix,
    )
    if job.validation_dataset is not None:
        message.validation_dataset.CopyFrom(_use_message(job.validation_dataset))
    if job.publish_model_name:
        message.publish_on_success.model_name = job.publish_model_name
    return message


def _use_message(use: DatasetUse) -> pb.JobDataset:
    return pb.JobDataset(ref=use.ref, max_samples=use.max_samples, weight=use.weight, version_id=use.version_id)


def progress_message(progress: Progress | None, values: Mapping[str, float]) -> pb.JobProgress:
    """Return the progress that the worker told, with the newest values of its metrics."""
    message = pb.JobProgress(
        loss=values.get("loss", 0.0),
        token_accuracy=values.get("token_accuracy", 0.0),
        learning_rate=values.get("learning_rate", 0.0),
        gradient_norm=values.get("gradient_norm", 0.0),
        trained_tokens=int(values.get("trained_tokens", 0)),
        tokens_per_second=values.get("tokens_per_second", 0.0),
        epoch=values.get("epoch", 0.0),
    )
    if "validation_loss" in values:
        message.validation_loss = values["validation_loss"]
    if progress is not None:
        message.phase = progress.phase
        if progress.unit == "steps":  # before the first step the worker counts bytes and rows
            message.step, message.total_steps = int(progress.done), int(progress.total)
        if progress.eta_seconds is not None:
            message.eta.CopyFrom(seconds_of(progress.eta_seconds))
    return message


def checkpoint_message(checkpoint: Checkpoint, job: Job) -> pb.Checkpoint:
    """Return a checkpoint as the API shows it."""
    files = checkpoint.files
    return pb.Checkpoint(
        id=checkpoint.id,
        job_id=checkpoint.job_id,
        step=checkpoint.step,
        epoch=checkpoint.epoch,
        metrics=checkpoint.metrics,
        best=checkpoint.id == job.best_checkpoint_id,
        location=location_message(ObjectLocation(files.credential, files.bucket, files.prefix)),
        digest=checkpoint.digest,
        size_bytes=checkpoint.size_bytes,
        chat_fingerprint=checkpoint.chat_fingerprint,
        create_time=timestamp_of(checkpoint.create_time),
        model_version_ids=list(checkpoint.model_version_ids),
    )


def resolved_message(checkpoint: Checkpoint, job: Job) -> internal_pb2.ResolveCheckpointResponse:
    """Return where the servable adapter of a checkpoint is."""
    files = adapter_of(checkpoint)
    return internal_pb2.ResolveCheckpointResponse(
        checkpoint_id=checkpoint.id,
        job_id=job.id,
        base_model_version_id=job.model_version_id,
        **vars(files),
        step=checkpoint.step,
    )


def seconds_of(seconds: float) -> Duration:
    """Return a duration as a message."""
    message = Duration()
    message.FromMilliseconds(int(Decimal(str(seconds)) * 1000))
    return message
