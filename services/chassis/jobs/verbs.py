"""What callers ask of priced jobs: quote, create, stop, update, delete. The same for every stage."""

from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from modelry.common.v1 import common_pb2
from services.chassis.clock import now
from services.chassis.data import Database, UnitOfWork, check_etag, retry_conflicts
from services.chassis.errors import AlreadyExists, ModelryError
from services.chassis.ids import new_id
from services.chassis.jobs.context import emit_change, job_event
from services.chassis.jobs.domain import PricedJob, State, refuse_delete
from services.chassis.jobs.engine import JobEngine
from services.chassis.jobs.reservations import Estimate, Reservations
from services.chassis.jobs.stage import Stage
from services.chassis.names import UpdateLabels

P = TypeVar("P", bound=PricedJob)


@dataclass(frozen=True)
class CreateJob(Generic[P]):
    """A request for a job.

    Attributes:
        draft: what the caller gave, defaults filled in, and the project; it has no id yet.
        spec_digest: digest of the spec that a quote is for.
        method: the API's method, whose request ids are remembered together.
    """

    draft: P
    spec_digest: str
    method: str
    request_id: str = ""
    request_digest: str = ""


class Intake(Protocol[P]):
    """What a stage knows of a job before it runs."""

    id_prefix: str

    async def resolve(self, draft: P) -> P:
        """Return the draft with every reference looked up; nothing is held. Raises: ModelryError, naming the field."""

    def estimate(self, job: P) -> Estimate:
        """Return what a resolved job is expected to take."""

    async def hold(self, job: P) -> None:
        """Hold what a resolved job uses, under its id. May be repeated. Raises: ModelryError, naming the field."""


class JobVerbs(Generic[P]):
    """The use cases of a stage's jobs that change them."""

    def __init__(
        self,
        stage: Stage[P],
        intake: Intake[P],
        reservations: Reservations,
        database: Database,
        engine: JobEngine[P],
    ) -> None:
        self._stage = stage
        self._intake = intake
        self._reservations = reservations
        self._database = database
        self._engine = engine

    async def quote(self, command: CreateJob[P]) -> common_pb2.Quote:
        """Return what a job would cost; makes nothing but the quote, and holds nothing."""
        job = await self._intake.resolve(command.draft)
        return await self._reservations.quote(job.project, self._intake.estimate(job), command.spec_digest)

    async def create(self, command: CreateJob[P]) -> P:
        """Make a job, or finish or find the one that an earlier call with this request id made.

        The order is that of the promise: the request's row, then what others set aside under the new id, then the job
        and its event in one transaction. A request that may be repeated frees nothing when it fails: what no job
        confirms falls by itself.
        """
        known, _ = await self._claim(command, commit=False)
        if known is not None:
            return known
        # Resolved before the claim stays: a refused request leaves nothing behind.
        job = await self._intake.resolve(command.draft)
        known, job_id = await self._claim(command, commit=True)
        if known is not None:
            return known
        try:
            job = replace(job, id=job_id)
            await self._intake.hold(job)
            price = await self._reservations.reserve(job, self._intake.estimate(job), command.spec_digest)
            job = await self._add(replace(job, unit_price=price))
        except ModelryError:
            if not command.request_id:
                await self._reservations.try_release(command.draft.project, job_id)
            raise
        self._engine.watchers.notify(job.id, job)
        self._engine.kick()
        return job

    @retry_conflicts
    async def _claim(self, command: CreateJob[P], *, commit: bool) -> tuple[P | None, str]:
        """Return the job that this request made before, if it did; else the id that it will have."""
        draft = command.draft
        async with UnitOfWork(self._database) as uow:
            jobs, fresh = self._stage.jobs(uow), new_id(self._intake.id_prefix)
            job_id = await uow.claim_request(
                draft.project, command.method, command.request_id, command.request_digest, fresh
            )
            known = await jobs.find(draft.project, job_id)
            if known is None and draft.name and await jobs.find(draft.project, draft.name) is not None:
                noun = self._stage.resource
                article = "an" if noun[0] in "aeiou" else "a"
                message = f"There is already {article} {noun} {draft.name!r} in this project."
                raise AlreadyExists(message, metadata={"resource": noun, "name": draft.name})
            if commit:
                await uow.commit()
        return known, job_id

    @retry_conflicts
    async def _add(self, job: P) -> P:
        moment, cause = now(), "It was made; what it needs is being prepared."
        job = replace(job, state=State.VALIDATING, cause=cause, create_time=moment, update_time=moment)
        async with UnitOfWork(self._database) as uow:
            jobs = self._stage.jobs(uow)
            known = await jobs.find(job.project, job.id)
            if known is not None:  # the same request, in parallel, was faster
                return known
            await uow.refuse_deleted(job.id)
            await jobs.add(job)
            emit_change(self._stage, uow, None, job)
            await uow.commit()
        return job

    @retry_conflicts
    async def stop(self, project: str, ref: str) -> P:
        """Stop a job; the same again changes nothing. Raises: NotFound, JobNotActive: it succeeded or failed."""
        async with UnitOfWork(self._database) as uow:
            jobs = self._stage.jobs(uow)
            before = await jobs.get(project, ref)
            after = before.stop(now(), "Stopped by its owner.")
            if after is before:
                return before
            await jobs.save(after)
            emit_change(self._stage, uow, before, after)
            await uow.commit()
        self._engine.watchers.notify(after.id, after)
        self._engine.kick()
        return after

    @retry_conflicts
    async def update(self, command: UpdateLabels) -> P:
        """Change title or metadata, and emit `updated`. Raises: NotFound, Invalid, Conflict: a stale etag."""
        noun = self._stage.resource
        changes = command.changes(f"{noun}.")
        async with UnitOfWork(self._database) as uow:
            jobs = self._stage.jobs(uow)
            job = await jobs.get(command.project, command.ref)
            check_etag(noun, command.ref, command.etag, job.version)
            after = replace(job, **changes, version=job.version + 1, update_time=now())
            await jobs.save(after)
            uow.emit(job_event(self._stage, after, "updated"))
            await uow.commit()
        self._engine.watchers.notify(after.id, after)
        return after

    @retry_conflicts
    async def delete(self, project: str, ref: str) -> None:
        """Delete an ended job with what belongs to it. Raises: NotFound, WrongState: it is active; Unavailable."""
        job = await self._engine.job(project, ref)
        refuse_delete(self._stage.resource, job)
        await self._engine.end_workers(job.id)  # none may write files after those of the job are deleted
        async with UnitOfWork(self._database) as uow:
            jobs = self._stage.jobs(uow)
            job = await jobs.get(project, job.id)
            await self._stage.removed(uow, job)
            launch_ids = await self._engine.remove(uow, job.id)
            await jobs.delete(job)
            gone = replace(job, version=job.version + 1, cause="Deleted by its owner.")
            uow.emit(job_event(self._stage, gone, "deleted"))
            await uow.commit()
        await self._engine.forget(launch_ids)
