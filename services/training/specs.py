"""What a worker is told, what it tells of a checkpoint, and what the registry is told of one. Pure."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from services.chassis.clock import now
from services.chassis.errors import Invalid
from services.chassis.ids import new_id
from services.chassis.jobs import Attempt, Report
from services.chassis.objects import Manifest, StoredFiles
from services.clients.registry import ModelInfo, Publication
from services.training.domain import Checkpoint, DatasetUse, Job
from services.training.work_spec import BaseModel, Output, Source, StoredManifest, TrainingWork

CHECKPOINT_PREFIX = "ftckpt_"
ADAPTER_FILE = "adapter_config.json"

_RUNTIME_MB = 1500


def work_of(
    job: Job, attempt: Attempt, model: ModelInfo, files: StoredFiles, resume: Checkpoint | None
) -> TrainingWork:
    """Return what an attempt's worker is told."""
    return TrainingWork(
        model=BaseModel(*_stored(files), model.version_id, model.digest, model.chat_fingerprint),
        datasets=tuple(source_of(use) for use in job.datasets),
        validation=source_of(job.validation_dataset) if job.validation_dataset else None,
        validation_ratio=job.validation_ratio,
        hyperparameters=job.hyperparameters,
        output=Output(job.output.bucket, attempt_prefix(job, attempt.number)),
        resume=StoredManifest(*_stored(resume.files)) if resume else None,
    )


def _stored(files: StoredFiles) -> tuple[str, str, Manifest]:
    """Return the fields of a `StoredManifest`."""
    return files.bucket, files.prefix, Manifest.from_json(json.loads(files.manifest_json))


def worker_argv(ranks: int) -> Sequence[str]:
    """Return the worker's command; the engine appends the attempt's folder."""
    launcher = f"-m torch.distributed.run --standalone --nproc-per-node {ranks}".split() if ranks > 1 else []
    return [sys.executable, *launcher, "-m", "services.training.worker"]


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
    assert use.files is not None  # a job is made of resolved data sets alone
    return Source(*_stored(use.files), use.file or "data.parquet", use.version_id, use.max_samples, use.weight or 1.0)


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
        files=StoredFiles(job.output.bucket, prefix, json.dumps(manifest.to_json()), job.output.credential),
        digest=manifest.digest,
        size_bytes=manifest.size_bytes,
        chat_fingerprint=str(body.get("fingerprint") or ""),
    )


def adapter_of(checkpoint: Checkpoint) -> StoredFiles:
    """Return the servable adapter inside a checkpoint. Raises Invalid when there is none."""
    manifest = Manifest.from_json(json.loads(checkpoint.files.manifest_json))
    for file in manifest.files:
        path = PurePosixPath(file.path)
        if path.name == ADAPTER_FILE:
            folder = "" if path.parent == PurePosixPath(".") else f"{path.parent}/"
            prefix = f"{checkpoint.files.prefix}/{folder}".rstrip("/")
            return replace(checkpoint.files, prefix=prefix, manifest_json=json.dumps(manifest.below(folder).to_json()))
    raise Invalid(f"The checkpoint {checkpoint.id} holds no servable adapter.", reason="NO_ADAPTER")


def publication(job: Job, checkpoint: Checkpoint, model_name: str, suffix: str, request_id: str) -> Publication:
    """Return what the registry is told to publish a checkpoint."""
    final = job.state.ended and checkpoint.id in (job.best_checkpoint_id, job.checkpoint_id)
    return Publication(
        model_name=model_name,
        checkpoint_id=checkpoint.id,
        job_id=job.id,
        step=checkpoint.step,
        final=final,
        base_model_version_id=job.model_version_id,
        dataset_version_ids=job.dataset_version_ids,
        files=adapter_of(checkpoint),
        lora_rank=job.hyperparameters.lora_rank,
        chat_fingerprint=checkpoint.chat_fingerprint,
        metrics=checkpoint.metrics,
        suffix=suffix,
        request_id=request_id,
        labels={use.version_id: use.label for use in job.datasets} | {job.id: job.name or job.id},
    )
