"""The use cases of training beside making a job (create_job.py): one function each. Nothing here knows gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from modelry.registry.v1 import registry_pb2
from services.chassis.clock import now
from services.chassis.data import check_etag, retry_conflicts
from services.chassis.errors import Invalid, ModelryError, NotFound
from services.chassis.jobs import State, changed
from services.training import checks
from services.training.context import Desk
from services.training.domain import Job, refuse_delete
from services.training.queries import get_checkpoint
from services.training.specs import job_prefix, publication
from services.training.stage import discard, job_event, note_version
from services.training.store import TrainingUnit


@retry_conflicts
async def stop_job(desk: Desk, project: str, ref: str) -> Job:
    """Stops a job with a checkpoint; idempotent while it stops and after. Raises NotFound, JobNotActive."""
    async with TrainingUnit(desk.database) as uow:
        before = await uow.jobs.get(project, ref)
        after = before.stop(now(), "Stopped by its owner.")
        if after is before:
            return before
        await uow.jobs.save(after)
        event = changed(desk.stage, before, after)
        assert event is not None
        uow.emit(event)
        await uow.commit()
    desk.engine.watchers.notify(after.id, after)
    desk.engine.kick()
    return after


@dataclass(frozen=True)
class UpdateJob:
    """New texts of a job; None: as it is."""

    project: str
    ref: str
    title: str | None = None
    metadata: Mapping[str, str] | None = None
    etag: str = ""


@retry_conflicts
async def update_job(desk: Desk, cmd: UpdateJob) -> Job:
    """Changes title or metadata. Raises NotFound, Invalid, Conflict for a stale etag."""
    async with TrainingUnit(desk.database) as uow:
        job = await uow.jobs.get(cmd.project, cmd.ref)
        check_etag("job", cmd.ref, cmd.etag, job.version)
        title = job.title if cmd.title is None else cmd.title
        metadata = job.metadata if cmd.metadata is None else dict(cmd.metadata)
        violations = checks.check_texts(title, metadata)
        if violations:
            raise Invalid(violations[0].message, violations=violations)
        after = replace(job, title=title, metadata=metadata, version=job.version + 1, update_time=now())
        await uow.jobs.save(after)
        uow.emit(job_event(desk.stage, after, "updated", {}))
        await uow.commit()
    desk.engine.watchers.notify(after.id, after)
    return after


@retry_conflicts
async def delete_job(desk: Desk, project: str, ref: str) -> None:
    """Deletes an ended job with its checkpoints; published versions stay. Raises NotFound, WrongState."""
    async with TrainingUnit(desk.database) as uow:
        job = await uow.jobs.get(project, ref)
        refuse_delete(job)
        for checkpoint in await uow.checkpoints_of_job(job.id):
            await uow.checkpoints.delete(checkpoint)
        launch_ids = await desk.engine.remove(uow, job.id)
        await uow.jobs.delete(job)
        await discard(uow, job, job.output.bucket, job_prefix(job))
        gone = replace(job, version=job.version + 1, cause="Deleted.")
        uow.emit(job_event(desk.stage, gone, "deleted", {}))
        await uow.commit()
    await desk.engine.forget(launch_ids)


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
    if not checks.NAME.fullmatch(cmd.model_name):
        message = f"model_name is {cmd.model_name!r}, and must match {checks.NAME.pattern}."
        raise Invalid(message, field="model_name", reason="INVALID_NAME")
    if not checks.SUFFIX.fullmatch(cmd.suffix):
        raise Invalid(f"suffix must match {checks.SUFFIX.pattern}.", field="suffix", reason="INVALID_NAME")
    checkpoint, job = await get_checkpoint(desk, cmd.project, cmd.checkpoint_id)
    async with TrainingUnit(desk.database) as uow:
        await uow.claim_request(cmd.project, "PublishCheckpoint", cmd.request_id, cmd.request_digest, checkpoint.id)
        await uow.commit()
    wish = publication(job, checkpoint, cmd.model_name, cmd.suffix, cmd.request_id)
    version = await desk.neighbours.publish(cmd.project, wish)
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


async def sweep(desk: Desk) -> int:
    """Deletes the files that nothing refers to any more; what cannot be deleted now stays for the next time."""
    from services.chassis.objects import AsyncObjectStore  # it loads the S3 library: not before the service is ready

    async with TrainingUnit(desk.database, write=False) as uow:
        waiting = await uow.trash.select(limit=50)
    done = 0
    for item in waiting:
        try:
            store = await desk.neighbours.store(item.project, item.credential, item.bucket)
            await AsyncObjectStore(store.access).delete_prefix(item.bucket, f"{item.prefix}/")
        except NotFound:  # the credential or the bucket is gone, and the files with it
            pass
        except ModelryError:
            continue
        async with TrainingUnit(desk.database) as uow:
            await uow.trash.delete(item)
            await uow.commit()
        done += 1
    return done
