"""The use cases of training beside the verbs of every job: one function each. Nothing here knows gRPC."""

from __future__ import annotations

from dataclasses import dataclass

from modelry.registry.v1 import registry_pb2
from services.chassis.clock import now
from services.chassis.data import retry_conflicts
from services.chassis.errors import Invalid
from services.chassis.jobs import State, job_event
from services.chassis.names import check_name
from services.training import checks
from services.training.context import Desk
from services.training.domain import Job
from services.training.queries import get_checkpoint
from services.training.specs import publication
from services.training.stage import note_version
from services.training.store import TrainingUnit


def clone_draft(old: Job, name: str) -> Job:
    """A draft of a new job like an old one: with the very versions of model and data that the old one used."""
    moment = now()
    return Job(
        id="",
        project=old.project,
        create_time=moment,
        update_time=moment,
        state=State.VALIDATING,
        name=name,
        title=old.title,
        metadata=dict(old.metadata),
        model=old.model,
        model_version_id=old.model_version_id,
        datasets=old.datasets,
        validation_dataset=old.validation_dataset,
        validation_ratio=old.validation_ratio,
        hyperparameters=old.hyperparameters,
        output=old.output,
        publish_model_name=old.publish_model_name,
        suffix=old.suffix,
        max_cost=old.max_cost,
    )


@dataclass(frozen=True)
class PublishCheckpoint:
    """The wish for a model version."""

    project: str
    checkpoint_id: str
    model_name: str
    suffix: str = ""
    request_id: str = ""
    request_digest: str = ""


async def publish_checkpoint(desk: Desk, cmd: PublishCheckpoint) -> registry_pb2.ModelVersion:
    """Publishes a checkpoint as a version in the registry, which copies it. Raises NotFound, Invalid, AlreadyExists."""
    check_name(cmd.model_name, "model_name")
    if not checks.SUFFIX.fullmatch(cmd.suffix):
        raise Invalid(f"suffix must match {checks.SUFFIX.pattern}.", field="suffix", reason="INVALID_NAME")
    checkpoint, job = await get_checkpoint(desk, cmd.project, cmd.checkpoint_id)
    async with TrainingUnit(desk.database) as uow:
        await uow.claim_request(cmd.project, "PublishCheckpoint", cmd.request_id, cmd.request_digest, checkpoint.id)
        await uow.commit()
    wish = publication(job, checkpoint, cmd.model_name, cmd.suffix, cmd.request_id)
    version = await desk.clients.registry.publish(cmd.project, wish)
    await _note_publication(desk, checkpoint.id, version.id)
    return version


@retry_conflicts
async def _note_publication(desk: Desk, checkpoint_id: str, version_id: str) -> None:
    async with TrainingUnit(desk.database) as uow:
        checkpoint = await note_version(uow, checkpoint_id, version_id)
        job = await uow.jobs.by_id(checkpoint.job_id) if checkpoint else None
        if job is not None:
            links = {"checkpoint": checkpoint_id, "published_model_version": version_id}
            uow.emit(job_event(desk.stage, job, "published", links))
        await uow.commit()
