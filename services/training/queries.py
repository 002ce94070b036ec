"""What callers read: checkpoints, metric points, and when a watch ends."""

from collections.abc import AsyncIterator

from services.chassis.data import Page, PageQuery
from services.chassis.jobs import MetricPoint, State
from services.training.context import ServiceContext
from services.training.domain import Checkpoint, Job
from services.training.store import TrainingUnit


async def list_checkpoints(
    project: str, ref: str, query: PageQuery, context: ServiceContext
) -> tuple[Job, Page[Checkpoint]]:
    """Return the kept checkpoints of a job, newest first. Raises NotFound, Invalid."""
    async with TrainingUnit(context.database, write=False) as uow:
        job = await uow.jobs.get(project, ref)
        return job, await uow.checkpoints.list(project, query, job_id=job.id)


async def get_checkpoint(project: str, checkpoint_id: str, context: ServiceContext) -> tuple[Checkpoint, Job]:
    """Return a checkpoint with its job. Raises NotFound."""
    async with TrainingUnit(context.database, write=False) as uow:
        checkpoint = await uow.checkpoints.get(project, checkpoint_id)
        return checkpoint, await uow.jobs.get(project, checkpoint.job_id)


def is_over(job: Job) -> bool:
    """Return whether nothing follows: it has ended, and the version to be published then is there."""
    waits = job.state is State.SUCCEEDED and job.publish_model_name and not job.published_model_version_id
    return job.state.ended and (job.settled or not waits)


async def read_metrics(
    project: str, ref: str, after_step: int, follow: bool, context: ServiceContext
) -> AsyncIterator[MetricPoint]:
    """Yield the metric points by step, in pages; with `follow` until the job ends. Raises NotFound."""
    if follow:
        async for point in context.engine.follow_metrics(project, ref, after_step=after_step):
            yield point
        return
    job = await context.engine.job(project, ref)
    while page := await context.engine.metrics(job.id, after_step=after_step):
        for point in page:
            yield point
            after_step = point.step
