"""Evaluations as they are shown: one, and many."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from services.chassis.data import Page, PageQuery
from services.chassis.jobs import Progress
from services.evaluation.domain import Evaluation
from services.evaluation.operations.context import Desk
from services.evaluation.store import EvaluationUnit


@dataclass(frozen=True)
class View:
    """An evaluation as it is shown: with what changes many times a second."""

    evaluation: Evaluation
    progress: Progress | None
    cost: Decimal


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
