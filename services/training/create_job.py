"""Making a job: looked up, set aside, committed; and what it would cost."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, replace
from typing import TypeVar

from modelry.common.v1 import common_pb2
from services.chassis.clock import now
from services.chassis.data import retry_conflicts
from services.chassis.errors import AlreadyExists, Denied, Invalid, ModelryError, NotFound, Violation, WrongState
from services.chassis.ids import new_id
from services.chassis.jobs import changed
from services.training import checks
from services.training.context import Desk
from services.training.domain import DatasetUse, Job
from services.training.estimate import estimate
from services.training.neighbours import ModelInfo
from services.training.store import TrainingUnit

JOB_PREFIX = "ftjob-"
OUTPUT_PREFIX = "jobs"
BUILTIN = "builtin"
T = TypeVar("T")


@dataclass(frozen=True)
class CreateJob:
    """The wish for a job: the draft holds what the caller gave, defaults filled in, and the project."""

    draft: Job
    spec_digest: str
    """Digest of the spec that a quote is for."""
    request_id: str = ""
    request_digest: str = ""
    method: str = "CreateJob"


async def quote_job(desk: Desk, cmd: CreateJob) -> common_pb2.Quote:
    """What the job would cost; makes nothing and holds nothing."""
    job = await resolve(desk, cmd.draft)
    expected = estimate(job, desk.machine.speed)
    return await desk.neighbours.quote(
        job.project,
        (expected.minutes_low, expected.minutes_high),
        cmd.spec_digest,
        f"Fine-tune {job.model} for {expected.steps} steps",
        expected.notes,
    )


async def create_job(desk: Desk, cmd: CreateJob) -> Job:
    """Makes a job, or finishes or finds the one that an earlier call with this request id made.

    The order is that of the promise: the request's row, then what the neighbours set aside under the new id, then the
    job and its event in one transaction. Nobody undoes what is set aside for a request that may be repeated: what the
    job does not confirm falls by itself.
    """
    made, _ = await _claim(desk, cmd, commit=False)
    if made is not None:
        return made
    job = await resolve(desk, cmd.draft)  # before the claim stays: a refused request leaves nothing behind
    made, job_id = await _claim(desk, cmd, commit=True)
    if made is not None:
        return made
    try:
        job = await _set_aside(desk, cmd, replace(job, id=job_id))
        job = await _add(desk, job)
    except ModelryError:
        if not cmd.request_id:
            await desk.neighbours.release(job.project, job_id)
        raise
    desk.engine.kick()
    return job


@retry_conflicts
async def _claim(desk: Desk, cmd: CreateJob, *, commit: bool) -> tuple[Job | None, str]:
    """The job that this request made before, if it did; else the id that it will have."""
    project = cmd.draft.project
    async with TrainingUnit(desk.database) as uow:
        job_id = await uow.claim_request(project, cmd.method, cmd.request_id, cmd.request_digest, new_id(JOB_PREFIX))
        made = await uow.jobs.find(project, job_id)
        if made is None:
            await _refuse_taken_name(uow, cmd.draft)
        if commit:
            await uow.commit()
    return made, job_id


async def _refuse_taken_name(uow: TrainingUnit, draft: Job) -> None:
    if draft.name and await uow.jobs.find(draft.project, draft.name) is not None:
        message = f"There is already a job {draft.name!r} in this project."
        raise AlreadyExists(message, metadata={"resource": "job", "name": draft.name})


async def _set_aside(desk: Desk, cmd: CreateJob, job: Job) -> Job:
    """Holds the versions and reserves the money under the job's id; every step may be repeated."""
    ask, project = desk.neighbours, job.project
    await ask.model(project, job.model_version_id, job.id)
    for version_id in job.dataset_version_ids:
        await ask.dataset(project, version_id, job.id)
    minutes = estimate(job, desk.machine.speed).minutes_high
    price = await ask.reserve(project, job.id, minutes, job.quote_id, cmd.spec_digest)
    return replace(job, unit_price=price)


@retry_conflicts
async def _add(desk: Desk, job: Job) -> Job:
    moment = now()
    job = replace(job, create_time=moment, update_time=moment, cause="It was made; its parts are being prepared.")
    async with TrainingUnit(desk.database) as uow:
        made = await uow.jobs.find(job.project, job.id)
        if made is not None:  # the same request, in parallel
            return made
        await uow.jobs.add(job)
        event = changed(desk.stage, None, job)
        assert event is not None
        uow.emit(event)
        await uow.commit()
    return job


async def resolve(desk: Desk, draft: Job) -> Job:
    """The draft with every reference looked up; nothing is held. Names the field of what is not right.

    Raises: Invalid, NotFound, WrongState, Unavailable
    """
    checks.check(draft, gpus=desk.machine.gpus, cpus=desk.machine.cpus)
    model = await _named("job.model", desk.neighbours.model(draft.project, draft.model_version_id or draft.model))
    _refuse_model(draft, model)
    uses = [await _use(desk, draft.project, f"job.datasets[{i}]", use) for i, use in enumerate(draft.datasets)]
    validation = draft.validation_dataset
    if validation is not None:
        validation = await _use(desk, draft.project, "job.validation_dataset", validation)
    output = draft.output
    opened = desk.neighbours.store(draft.project, output.credential or BUILTIN, output.bucket)
    store = await _named("job.output", opened)
    prefix = (output.prefix or OUTPUT_PREFIX).rstrip("/")
    return replace(
        draft,
        model_version_id=model.version_id,
        parameter_count=model.parameter_count,
        hyperparameters=draft.hyperparameters.for_model(model.parameter_count, model.context_length),
        datasets=tuple(uses),
        validation_dataset=validation,
        output=replace(output, credential=output.credential or BUILTIN, bucket=store.bucket, prefix=prefix),
    )


def _refuse_model(draft: Job, model: ModelInfo) -> None:
    if model.adapter:
        message = f"job.model: {draft.model} is an adapter; tune its base, with the data of both."
        raise Invalid(message, field="job.model", reason="MODEL_IS_ADAPTER")
    if model.state == "FAILED":
        message = f"job.model: {draft.model} could not be prepared: {model.failure}"
        raise WrongState(message, reason="MODEL_NOT_READY", metadata={"field": "job.model", "state": model.state})


async def _use(desk: Desk, project: str, path: str, use: DatasetUse) -> DatasetUse:
    path = f"{path}.ref"
    info = await _named(path, desk.neighbours.dataset(project, use.version_id or use.ref))
    if info.evaluation_pairs:
        message = f"{path}: {use.ref} is an evaluation set: it has references to score with, not answers to learn."
        raise Invalid(message, field=path, reason="WRONG_DATASET_KIND")
    if info.row_count == 0:
        raise Invalid(f"{path}: {use.ref} has no rows.", field=path, reason="EMPTY_DATASET")
    return replace(
        use,
        version_id=info.version_id,
        label=info.label,
        bucket=info.bucket,
        prefix=info.prefix,
        manifest=info.manifest,
        file=info.file,
        row_count=info.row_count,
        token_count=info.token_count,
    )


async def _named(path: str, question: Awaitable[T]) -> T:
    """The answer to a question about one field; a refusal names it."""
    try:
        return await question
    except (NotFound, WrongState, Denied) as error:
        error.metadata.setdefault("field", path)
        raise
    except Invalid as error:
        violation = Violation(path, error.message, error.reason)
        raise Invalid(f"{path}: {error.message}", reason=error.reason, violations=[violation]) from error
