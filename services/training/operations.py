"""The use cases of training beside the verbs of every job: one function each. Nothing here knows gRPC."""

from dataclasses import dataclass, fields, replace

from modelry.registry.v1 import registry_pb2
from services.chassis.clock import now
from services.chassis.data import retry_conflicts
from services.chassis.errors import Invalid
from services.chassis.jobs import JobCore, State, job_event
from services.chassis.names import check_name
from services.training import checks
from services.training.context import ServiceContext
from services.training.domain import Job
from services.training.queries import get_checkpoint
from services.training.specs import publication
from services.training.stage import note_version
from services.training.store import TrainingUnit

_OF_ONE_JOB = {field.name for field in fields(JobCore)} | {
    "quote_id",
    "unit_price",
    "best_checkpoint_id",
    "published_model_version_id",
}
"""Fields that a clone does not take over: what only one job can have, its course and its outcome."""


def clone_draft(old: Job, name: str) -> Job:
    """Return a draft of a new job like an old one: with the very versions of model and data that the old one used."""
    moment = now()
    draft = Job(id="", project=old.project, create_time=moment, update_time=moment, state=State.VALIDATING)
    given = {field.name: getattr(old, field.name) for field in fields(Job) if field.name not in _OF_ONE_JOB}
    return replace(draft, **{**given, "name": name})


@dataclass(frozen=True)
class PublishCheckpoint:
    """Ask for a model version made of a checkpoint."""

    project: str
    checkpoint_id: str
    model_name: str
    suffix: str = ""
    request_id: str = ""
    request_digest: str = ""


async def publish_checkpoint(command: PublishCheckpoint, context: ServiceContext) -> registry_pb2.ModelVersion:
    """Publish a checkpoint as a version in the registry, which copies it. Raises NotFound, Invalid, AlreadyExists."""
    check_name(command.model_name, "model_name")
    if not checks.SUFFIX.fullmatch(command.suffix):
        raise Invalid(f"The suffix must match {checks.SUFFIX.pattern}.", field="suffix", reason="INVALID_NAME")
    checkpoint, job = await get_checkpoint(command.project, command.checkpoint_id, context)
    async with TrainingUnit(context.database) as uow:
        request = ("PublishCheckpoint", command.request_id, command.request_digest)
        await uow.claim_request(command.project, *request, checkpoint.id)
        await uow.commit()
    order = publication(job, checkpoint, command.model_name, command.suffix, command.request_id)
    version = await context.clients.registry.publish(command.project, order)
    await _note_publication(checkpoint.id, version.id, context)
    return version


@retry_conflicts
async def _note_publication(checkpoint_id: str, version_id: str, context: ServiceContext) -> None:
    async with TrainingUnit(context.database) as uow:
        checkpoint = await note_version(uow, checkpoint_id, version_id)
        job = await uow.jobs.by_id(checkpoint.job_id) if checkpoint else None
        if job is None:
            return
        after = replace(job, version=job.version + 1, update_time=now())  # each event is of a version of its own
        await uow.jobs.save(after)
        links = {"checkpoint": checkpoint_id, "published_model_version": version_id}
        uow.emit(job_event(context.stage, after, "published", links))
        await uow.commit()
    context.engine.watchers.notify(after.id, after)
