"""Evaluations as they are shown: one, and many."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from services.chassis.data import Page, PageQuery
from services.chassis.jobs import Progress
from services.evaluation.domain import Evaluation
from services.evaluation.operations.context import ServiceContext


@dataclass(frozen=True)
class View:
    """An evaluation as it is shown: with what changes many times a second."""

    evaluation: Evaluation
    progress: Progress | None
    cost: Decimal


async def view(evaluation: Evaluation, context: ServiceContext) -> View:
    """Return the evaluation with its progress and its cost so far."""
    progress = await context.engine.progress([evaluation.id])
    seconds = await context.engine.run_seconds(evaluation.id) if evaluation.attempt else 0.0
    return View(evaluation, progress.get(evaluation.id), evaluation.cost(seconds))


async def get_evaluation(project: str, ref: str, context: ServiceContext) -> View:
    """Return one evaluation. Raises NotFound."""
    return await view(await context.engine.job(project, ref), context)


async def list_evaluations(project: str, page: PageQuery, context: ServiceContext) -> Page[View]:
    """Return evaluations, newest first."""
    result = await context.engine.jobs(project, page)
    views = [await view(evaluation, context) for evaluation in result.items]
    return Page(tuple(views), result.next_page_token)
