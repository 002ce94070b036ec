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


async def view(context: ServiceContext, evaluation: Evaluation) -> View:
    """The evaluation with its progress and its cost so far."""
    progress = await context.engine.progress([evaluation.id])
    seconds = await context.engine.run_seconds(evaluation.id) if evaluation.attempt else 0.0
    return View(evaluation, progress.get(evaluation.id), evaluation.cost(seconds))


async def get_evaluation(context: ServiceContext, project: str, ref: str) -> View:
    """One evaluation. Raises NotFound."""
    return await view(context, await context.engine.job(project, ref))


async def list_evaluations(context: ServiceContext, project: str, page: PageQuery) -> Page[View]:
    """Evaluations, newest first."""
    found = await context.engine.jobs(project, page)
    views = [await view(context, evaluation) for evaluation in found.items]
    return Page(tuple(views), found.next_page_token)
