"""How the job engine runs fine-tuning: what a worker is told, what its reports mean, what follows the end."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from services.chassis.clock import now
from services.chassis.data import Database, Repository, UnitOfWork, retry_conflicts
from services.chassis.errors import Conflict, Invalid, ModelryError, Unavailable
from services.chassis.garbage import discard
from services.chassis.jobs import Attempt, Plan, Readiness, Report, Stage, State, job_event
from services.chassis.launch import Launcher
from services.training.clients import Clients
from services.training.domain import Checkpoint, Job, is_better, to_drop
from services.training.specs import job_prefix, memory_mb, publication, read_checkpoint, work_of, worker_argv
from services.training.store import CHECKPOINTS, GARBAGE, JOBS, TrainingUnit, checkpoints_of, jobs_of

STOP_MARGIN_SECONDS = 30.0
"""How long a stop with a checkpoint is expected to take: the highest cost is kept with it."""


class TrainingStage(Stage[Job]):
    """Fine-tuning as the engine sees it."""

    name = "training"
    resource = "job"
    table = JOBS

    def __init__(
        self,
        database: Database,
        clients: Clients,
        launcher: Launcher,
        cpus: int = 0,
        program: Callable[[int], Sequence[str]] = worker_argv,
    ) -> None:
        """`cpus` is the most cores that a job takes; 0: all that are free. `program` is the worker's, by its ranks."""
        self._database = database
        self._clients = clients
        self._launcher = launcher
        self._cpus = cpus
        self._program = program

    def jobs(self, uow: UnitOfWork) -> Repository[Job]:
        """See `Stage.jobs`."""
        return jobs_of(uow)

    def links(self, job: Job) -> dict[str, str]:
        """See `Stage.links`."""
        links = {
            "model_version": job.model_version_id,
            "dataset_version": next(iter(job.dataset_version_ids), ""),
            "checkpoint": job.best_checkpoint_id,
            "published_model_version": job.published_model_version_id,
        }
        return {kind: identity for kind, identity in links.items() if identity}

    async def prepare(self, job: Job) -> Readiness:
        """Confirm what was set aside, and wait until the model is prepared."""
        await self._clients.reservations.confirm(job)
        model = await self._clients.registry.resolve(job.project, job.model_version_id, job.id)
        if model.state == "FAILED":
            raise Invalid(f"The model {job.model} could not be prepared: {model.failure}", reason="MODEL_NOT_READY")
        if model.state != "READY":
            return Readiness(False, f"The model {job.model} is being prepared.")
        return Readiness(True, "Everything is ready; it waits for a slot.")

    async def plan(self, job: Job, attempt: Attempt) -> Plan:
        """See `Stage.plan`."""
        model = await self._clients.registry.resolve(job.project, job.model_version_id, job.id)
        if model.files is None:
            raise Unavailable(f"The model {job.model} is not prepared.", reason="MODEL_NOT_READY")
        store = await self._clients.credentials.resolve(job.project, job.output.credential, job.output.bucket)
        ranks = job.hyperparameters.world_size
        usage = await self._launcher.usage()
        return Plan(
            argv=self._program(ranks),
            # torch's launcher kills its ranks 30 s after a stop; a last checkpoint may take longer.
            env={"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "600"} if ranks > 1 else {},
            work=work_of(job, attempt, model, model.files, await self._resume(attempt)).to_json(),
            output=store.access,
            cpus=ranks,
            most_cpus=max(ranks, self._cpus or usage.cores),
            memory_mb=memory_mb(job.parameter_count, ranks),
            gpus=ranks if usage.gpus else 0,
            ranks=ranks,
        )

    async def _resume(self, attempt: Attempt) -> Checkpoint | None:
        if not attempt.resume_checkpoint_id:
            return None
        async with TrainingUnit(self._database, write=False) as uow:
            checkpoint = await uow.checkpoints.by_id(attempt.resume_checkpoint_id)
        if checkpoint is None:
            raise Invalid("The checkpoint to go on from is gone.", reason="CHECKPOINT_GONE")
        return checkpoint

    async def reported(self, uow: UnitOfWork, job: Job, report: Report) -> Job:
        """Record checkpoints; everything else is the engine's."""
        if report.kind != "checkpoint":
            return job
        checkpoint = read_checkpoint(job, report)
        kept = await checkpoints_of(uow).select(CHECKPOINTS.c.job_id == job.id)
        best = next((one for one in kept if one.id == job.best_checkpoint_id), None)
        await checkpoints_of(uow).add(checkpoint)
        after = job.advance(checkpoint.id, checkpoint.step, now())
        if is_better(checkpoint, best):
            after = replace(after, best_checkpoint_id=checkpoint.id)
        for old in to_drop(
            [*kept, checkpoint], job.hyperparameters.checkpoints_kept, {after.best_checkpoint_id, checkpoint.id}
        ):
            await discard_files(uow, job, old.files.bucket, old.files.prefix)
            await checkpoints_of(uow).delete(old)
        uow.emit(job_event(self, after, "checkpointed", {"checkpoint": checkpoint.id}))
        return after

    def reason_to_stop(self, job: Job, run_seconds: float) -> str:
        """Stop a job before it costs more than it may."""
        if job.max_cost is None or not job.unit_price:
            return ""
        if job.cost(run_seconds + STOP_MARGIN_SECONDS) < job.max_cost:
            return ""
        return f"It has cost {job.cost(run_seconds).normalize():f} and may not cost more than {job.max_cost:f}."

    async def ended(self, job: Job) -> None:
        """Publish what succeeded, book what was used, and let go of what was held."""
        if job.state is State.SUCCEEDED and job.publish_model_name and not job.published_model_version_id:
            await self._publish(job)
        async with TrainingUnit(self._database, write=False) as uow:
            seconds = await uow.attempts.run_seconds(job.id)
        await self._clients.reservations.settle(job, seconds)

    async def removed(self, uow: UnitOfWork, job: Job) -> None:
        """Remove the checkpoints; all files of the job are deleted once this commits. Published versions stay."""
        for checkpoint in await checkpoints_of(uow).select(CHECKPOINTS.c.job_id == job.id):
            await checkpoints_of(uow).delete(checkpoint)
        await discard_files(uow, job, job.output.bucket, job_prefix(job))

    async def _publish(self, job: Job) -> None:
        async with TrainingUnit(self._database, write=False) as uow:
            checkpoint = await uow.checkpoints.by_id(job.best_checkpoint_id)
        try:
            if checkpoint is None:
                raise Invalid("The job has no checkpoint.")
            order = publication(job, checkpoint, job.publish_model_name, job.suffix, f"{job.id}-on-success")
            version = await self._clients.registry.publish(job.project, order)
        except (Unavailable, Conflict):
            raise
        except ModelryError as error:
            await self.note_published(job.id, "", "", f"All of its work is done, but not published: {error.message}")
            return
        await self.note_published(job.id, checkpoint.id, version.id, f"Published as {version.model_name}.")

    @retry_conflicts
    async def note_published(self, job_id: str, checkpoint_id: str, version_id: str, cause: str) -> None:
        """Note the version that was made of a job's best checkpoint when it succeeded (none: why not)."""
        async with TrainingUnit(self._database) as uow:
            job = await uow.jobs.by_id(job_id)
            if job is None or (version_id and job.published_model_version_id == version_id):
                return
            after = replace(
                job, version=job.version + 1, update_time=now(), cause=cause, published_model_version_id=version_id
            )
            await uow.jobs.save(after)
            if version_id:
                await note_version(uow, checkpoint_id, version_id)
                uow.emit(job_event(self, after, "published", {"checkpoint": checkpoint_id}))
            await uow.commit()


async def note_version(uow: TrainingUnit, checkpoint_id: str, version_id: str) -> Checkpoint | None:
    """Note on a checkpoint that a version was published from it. None: it is gone, or that was noted before."""
    checkpoint = await uow.checkpoints.by_id(checkpoint_id)
    if checkpoint is None or version_id in checkpoint.model_version_ids:
        return None
    ids = (*checkpoint.model_version_ids, version_id)
    after = replace(checkpoint, version=checkpoint.version + 1, model_version_ids=ids)
    await uow.checkpoints.save(after)
    return after


async def discard_files(uow: UnitOfWork, job: Job, bucket: str, prefix: str) -> None:
    """Note that files of a job are to be deleted, once this commits."""
    await discard(uow, GARBAGE, bucket, prefix, job.project, job.output.credential)
