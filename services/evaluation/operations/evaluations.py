"""Quote, create, read, change, stop and delete evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from modelry.common.v1 import common_pb2
from services.chassis.clock import now
from services.chassis.data import Page, PageQuery, check_etag, retry_conflicts
from services.chassis.errors import AlreadyExists, Denied, Invalid, ModelryError, NotFound
from services.chassis.events import Event
from services.chassis.ids import new_id
from services.chassis.jobs import AttemptState, Progress, State, changed
from services.chassis.names import check_labels
from services.chassis.objects import AsyncObjectStore
from services.evaluation.checks import target_path
from services.evaluation.domain import Evaluation, refuse_delete
from services.evaluation.estimate import Estimate, estimate
from services.evaluation.operations.context import Desk
from services.evaluation.operations.resolve import look, resolve
from services.evaluation.store import EvaluationUnit, drop_results

PREFIX = "eval-"
CREATE = "CreateEvaluation"


@dataclass(frozen=True)
class CreateEvaluation:
    """The wish for an evaluation: the draft holds what the caller gave, with defaults filled in."""

    draft: Evaluation
    spec_digest: str
    """Digest of the spec that a quote is for."""
    request_id: str = ""
    request_digest: str = ""

    @property
    def project(self) -> str:
        """Whose it will be."""
        return self.draft.project


@dataclass(frozen=True)
class View:
    """An evaluation as it is shown: with what changes many times a second."""

    evaluation: Evaluation
    progress: Progress | None
    cost: Decimal


async def quote_evaluation(desk: Desk, cmd: CreateEvaluation) -> common_pb2.Quote:
    """What the evaluation would cost; makes nothing and holds nothing."""
    evaluation = await resolve(desk, cmd.draft)
    expected = estimate(evaluation, desk.speed)
    minutes = (expected.minutes_low, expected.minutes_high)
    words = f"Evaluate {len(evaluation.targets)} models on {len(evaluation.tasks)} tasks"
    return await desk.neighbours.quote(cmd.project, minutes, cmd.spec_digest, words, expected.notes)


async def create_evaluation(desk: Desk, cmd: CreateEvaluation) -> View:
    """Makes an evaluation, or finishes or finds the one that an earlier call with this request id made.

    First the request's row, then what the neighbours set aside under the new id, then the evaluation and its event in
    one transaction. What an evaluation that never came to be had set aside falls by itself.
    """
    async with EvaluationUnit(desk.database) as uow:
        fresh = new_id(PREFIX)
        identity = await uow.claim_request(cmd.project, CREATE, cmd.request_id, cmd.request_digest, fresh)
        made = await uow.evaluations.find(cmd.project, identity)
        if made is None and cmd.draft.name and await uow.evaluations.find(cmd.project, cmd.draft.name) is not None:
            message = f"There is already an evaluation {cmd.draft.name!r} in this project."
            raise AlreadyExists(message, metadata={"resource": "evaluation", "name": cmd.draft.name})
        await uow.commit()
    if made is not None:
        return await view(desk, made)
    evaluation = replace(await resolve(desk, cmd.draft), id=identity)
    try:
        evaluation = await _set_aside(desk, cmd, evaluation, estimate(evaluation, desk.speed))
        evaluation = await _commit(desk, evaluation)
    except ModelryError:
        if not cmd.request_id:
            await desk.neighbours.release(cmd.project, identity)
        raise
    desk.engine.kick()
    return await view(desk, evaluation)


async def _set_aside(desk: Desk, cmd: CreateEvaluation, evaluation: Evaluation, expected: Estimate) -> Evaluation:
    """Hold the models and data sets, reserve the money."""
    project = evaluation.project
    for index, target in enumerate(evaluation.targets):
        path = f"{target_path(index)}.{target.kind.lower()}"
        await look(path, desk.neighbours.model(project, target.model_version_id, evaluation.id))
    for index, task in enumerate(evaluation.tasks):
        if not task.preset:
            path = f"evaluation.tasks[{index}].custom.dataset"
            await look(path, desk.neighbours.dataset(project, task.dataset_version_id, evaluation.id))
    price = await desk.neighbours.reserve(
        project, evaluation.id, expected.minutes_high, evaluation.quote_id, cmd.spec_digest
    )
    return replace(evaluation, unit_price=price)


async def _commit(desk: Desk, evaluation: Evaluation) -> Evaluation:
    async with EvaluationUnit(desk.database) as uow:
        made = await uow.evaluations.find(evaluation.project, evaluation.id)
        if made is not None:  # the same request in parallel was faster
            return made
        moment = now()
        fresh = replace(
            evaluation,
            state=State.VALIDATING,
            cause="Its models are being prepared.",
            create_time=moment,
            update_time=moment,
        )
        await uow.evaluations.add(fresh)
        event = changed(desk.stage, None, fresh)
        assert event is not None
        uow.emit(event)
        await uow.commit()
    desk.engine.watchers.notify(fresh.id, fresh)
    return fresh


async def view(desk: Desk, evaluation: Evaluation) -> View:
    """The evaluation with its progress and its cost so far."""
    progress = await desk.engine.progress([evaluation.id])
    seconds = await desk.engine.run_seconds(evaluation.id) if evaluation.attempt else 0.0
    return View(evaluation, progress.get(evaluation.id), evaluation.cost(seconds))


async def get_evaluation(desk: Desk, project: str, ref: str) -> View:
    """One evaluation. Raises NotFound."""
    async with EvaluationUnit(desk.database, write=False) as uow:
        evaluation = await uow.evaluations.get(project, ref)
    return await view(desk, evaluation)


async def list_evaluations(desk: Desk, project: str, page: PageQuery) -> Page[View]:
    """Evaluations, newest first."""
    async with EvaluationUnit(desk.database, write=False) as uow:
        found = await uow.evaluations.list(project, page)
    views = [await view(desk, evaluation) for evaluation in found.items]
    return Page(tuple(views), found.next_page_token)


@dataclass(frozen=True)
class UpdateEvaluation:
    """The wish for another title or other metadata; None leaves a field as it is."""

    project: str
    ref: str
    title: str | None
    metadata: Mapping[str, str] | None
    etag: str = ""


@retry_conflicts
async def update_evaluation(desk: Desk, cmd: UpdateEvaluation, moment: datetime) -> View:
    """Changes title or metadata. Raises NotFound, Conflict for a stale etag, Invalid."""
    check_labels(cmd.title or "", cmd.metadata or {}, "evaluation.")
    async with EvaluationUnit(desk.database) as uow:
        evaluation = await uow.evaluations.get(cmd.project, cmd.ref)
        check_etag("evaluation", cmd.ref, cmd.etag, evaluation.version)
        changed_one = replace(
            evaluation,
            title=evaluation.title if cmd.title is None else cmd.title,
            metadata=evaluation.metadata if cmd.metadata is None else dict(cmd.metadata),
            version=evaluation.version + 1,
            update_time=moment,
        )
        await uow.evaluations.save(changed_one)
        await uow.commit()
    desk.engine.watchers.notify(changed_one.id, changed_one)
    return await view(desk, changed_one)


@retry_conflicts
async def stop_evaluation(desk: Desk, project: str, ref: str, moment: datetime) -> View:
    """Stops an evaluation; the same again changes nothing. Raises NotFound, WrongState after it succeeded or failed."""
    async with EvaluationUnit(desk.database) as uow:
        before = await uow.evaluations.get(project, ref)
        after = before.stop(moment, "Stopped by its owner.")
        if after is not before:
            await uow.evaluations.save(after)
            event = changed(desk.stage, before, after)
            if event is not None:
                uow.emit(event)
            await uow.commit()
    desk.engine.watchers.notify(after.id, after)
    desk.engine.kick()
    return await view(desk, after)


async def delete_evaluation(desk: Desk, project: str, ref: str) -> None:
    """Deletes an ended evaluation with its report and samples, files first, so that a repeat finishes it.

    Raises: NotFound, WrongState while it is active.
    """
    async with EvaluationUnit(desk.database, write=False) as uow:
        evaluation = await uow.evaluations.get(project, ref)
    attempts = await desk.engine.attempts(evaluation.id)
    refuse_delete(evaluation, busy=any(one.state is not AttemptState.ENDED for one in attempts))
    await _delete_files(desk, evaluation)
    async with EvaluationUnit(desk.database) as uow:
        evaluation = await uow.evaluations.get(project, evaluation.id)
        await uow.evaluations.delete(evaluation)
        await drop_results(uow, evaluation.id)
        launches = await desk.engine.remove(uow, evaluation.id)
        uow.emit(
            Event(
                project=project,
                resource="evaluation",
                resource_id=evaluation.id,
                happening="deleted",
                state=str(evaluation.state),
                version=evaluation.version + 1,
                cause="Deleted by its owner.",
            )
        )
        await uow.commit()
    await desk.engine.forget(launches)


async def _delete_files(desk: Desk, evaluation: Evaluation) -> None:
    place = evaluation.output
    try:
        store = await desk.neighbours.store(evaluation.project, place.credential, place.bucket)
        await AsyncObjectStore(store.access).delete_prefix(store.bucket, evaluation.report_prefix + "/")
    except (NotFound, Denied, Invalid):  # the credential or the bucket is gone, and the files with it
        return
