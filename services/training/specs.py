"""What a worker is told, what it tells of a checkpoint, and what the registry is told of one. Pure."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import PurePosixPath

from services.chassis.clock import now
from services.chassis.errors import Invalid
from services.chassis.ids import new_id
from services.chassis.jobs import Attempt, Report
from services.chassis.objects import Manifest, StoredFiles
from services.clients.registry import ModelInfo, Publication
from services.training.domain import Checkpoint, DatasetUse, Hyperparameters, Job
from services.training.work_spec import BaseModel, Recipe, Source, StoredManifest, TrainingWork

CHECKPOINT_PREFIX = "ftckpt_"
ADAPTER_FILE = "adapter_config.json"

_RUNTIME_MB = 1500


def work_of(
    job: Job, attempt: Attempt, model: ModelInfo, files: StoredFiles, resume: Checkpoint | None
) -> TrainingWork:
    """Return what an attempt's worker is told."""
    weights = _stored(files.bucket, files.prefix, files.manifest_json)
    return TrainingWork(
        model=BaseModel(weights, model.version_id, model.digest, model.chat_fingerprint),
        datasets=tuple(source_of(use) for use in job.datasets),
        validation=source_of(job.validation_dataset) if job.validation_dataset else None,
        validation_ratio=job.validation_ratio,
        recipe=recipe_of(job.hyperparameters),
        output_bucket=job.output.bucket,
        output_prefix=attempt_prefix(job, attempt.number),
        resume=_stored(resume.bucket, resume.prefix, resume.manifest) if resume else None,
    )


def recipe_of(values: Hyperparameters) -> Recipe:
    """Return the hyperparameters as the worker is told; how many checkpoints are kept is the service's."""
    return Recipe(**{one.name: getattr(values, one.name) for one in fields(Recipe)})


def _stored(bucket: str, prefix: str, manifest: str) -> StoredManifest:
    return StoredManifest(bucket, prefix, Manifest.from_json(json.loads(manifest)))


def worker_argv(ranks: int) -> Sequence[str]:
    """Return the worker's command; the engine appends the attempt's folder."""
    program = ["-m", "services.training.worker"]
    if ranks == 1:
        return [sys.executable, *program]
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(ranks),
        *program,
    ]


def memory_mb(parameter_count: int, ranks: int) -> int:
    """Return a worker's memory in MiB: its runtime, and per rank bf16 weights with what a step keeps beside them."""
    return _RUNTIME_MB + int(ranks * parameter_count * 4 / 2**20)


def job_prefix(job: Job) -> str:
    """Return where everything of a job lies."""
    return f"{job.output.prefix}/{job.id}"


def attempt_prefix(job: Job, number: int) -> str:
    """Return the only place to which an attempt's worker writes."""
    return f"{job_prefix(job)}/attempt-{number}"


def source_of(use: DatasetUse) -> Source:
    """Return a data set as the worker is told."""
    files = _stored(use.bucket, use.prefix, use.manifest)
    return Source(files, use.file or "data.parquet", use.version_id, use.max_samples, use.weight or 1.0)


def read_checkpoint(job: Job, report: Report) -> Checkpoint:
    """Return the checkpoint that a report tells of. Raises Invalid for one outside of the attempt's prefix."""
    body = report.body
    prefix = str(body.get("prefix", "")).rstrip("/")
    if body.get("bucket") != job.output.bucket or not prefix.startswith(f"{attempt_prefix(job, report.attempt)}/"):
        raise Invalid("The checkpoint is not under its attempt's prefix.", field="body.prefix")
    step, manifest = body.get("step"), Manifest.from_json(body.get("manifest") or {})
    if not isinstance(step, int):
        raise Invalid("The step must be a whole number.", field="body.step")
    metrics = body.get("metrics") or {}
    return Checkpoint(
        id=str(body.get("checkpoint_id") or new_id(CHECKPOINT_PREFIX)),
        project=job.project,
        job_id=job.id,
        create_time=now(),
        attempt=report.attempt,
        step=step,
        epoch=float(body.get("epoch") or 0.0),
        metrics={str(name): float(value) for name, value in metrics.items() if isinstance(value, int | float)},
        bucket=job.output.bucket,
        prefix=prefix,
        manifest=json.dumps(manifest.to_json()),
        digest=manifest.digest,
        size_bytes=manifest.size_bytes,
        chat_fingerprint=str(body.get("fingerprint") or ""),
    )


def adapter_of(checkpoint: Checkpoint) -> tuple[str, Manifest]:
    """Return the prefix and manifest of the servable adapter inside a checkpoint. Raises Invalid when there is none."""
    manifest = Manifest.from_json(json.loads(checkpoint.manifest))
    for file in manifest.files:
        path = PurePosixPath(file.path)
        if path.name == ADAPTER_FILE:
            folder = "" if path.parent == PurePosixPath(".") else f"{path.parent}/"
            inside = [one for one in manifest.files if one.path.startswith(folder)]
            files = tuple(replace(one, path=one.path.removeprefix(folder)) for one in inside)
            return f"{checkpoint.prefix}/{folder}".rstrip("/"), Manifest(files)
    raise Invalid(f"The checkpoint {checkpoint.id} holds no servable adapter.", reason="NO_ADAPTER")


def publication(job: Job, checkpoint: Checkpoint, model_name: str, suffix: str, request_id: str) -> Publication:
    """Return what the registry is told to publish a checkpoint."""
    prefix, manifest = adapter_of(checkpoint)
    final = job.state.ended and checkpoint.id in (job.best_checkpoint_id, job.checkpoint_id)
    return Publication(
        model_name=model_name,
        checkpoint_id=checkpoint.id,
        job_id=job.id,
        step=checkpoint.step,
        final=final,
        base_model_version_id=job.model_version_id,
        dataset_version_ids=job.dataset_version_ids,
        files=StoredFiles(checkpoint.bucket, prefix, json.dumps(manifest.to_json()), job.output.credential),
        lora_rank=job.hyperparameters.lora_rank,
        chat_fingerprint=checkpoint.chat_fingerprint,
        metrics=checkpoint.metrics,
        suffix=suffix,
        request_id=request_id,
        labels={use.version_id: use.label for use in job.datasets} | {job.id: job.name or job.id},
    )
