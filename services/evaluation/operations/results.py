"""Reports and samples of evaluations, and the preset benchmarks."""

from typing import Any

from services.chassis.data import Page, PageQuery
from services.chassis.errors import NotFound
from services.evaluation.benchmarks.presets import PRESETS, Preset
from services.evaluation.domain import StoredSample, refuse_report
from services.evaluation.operations.context import ServiceContext
from services.evaluation.store import PARTS, EvaluationUnit


async def get_report(project: str, ref: str, context: ServiceContext) -> dict[str, Any]:
    """Return the report of a succeeded evaluation as JSON. Raises NotFound, WrongState before it succeeded."""
    async with EvaluationUnit(context.database, write=False) as uow:
        evaluation = await uow.evaluations.get(project, ref)
        refuse_report(evaluation)
        parts = await uow.parts.select(PARTS.c.evaluation_id == evaluation.id, order_by=(PARTS.c.id,))
    content: dict[str, Any] = {"evaluation_id": evaluation.id, "scores": [], "comparisons": [], "settings": []}
    for part in parts:
        if part.kind == "main_metrics":
            content["main_metrics"] = part.rows[0]
        else:
            content[part.kind] += part.rows
    content["location"] = vars(evaluation.output) | {"prefix": evaluation.attempt_prefix(evaluation.attempt)}
    return content


async def list_samples(project: str, ref: str, page: PageQuery, context: ServiceContext) -> Page[StoredSample]:
    """Return samples by task, question and target, or as asked; they come while it runs. Raises NotFound, Invalid."""
    async with EvaluationUnit(context.database, write=False) as uow:
        evaluation = await uow.evaluations.get(project, ref)
        return await uow.samples.list(project, page, evaluation_id=evaluation.id)


def get_benchmark(name: str) -> Preset:
    """Return one preset benchmark. Raises NotFound."""
    if name not in PRESETS:
        raise NotFound.of("benchmark", name)
    return PRESETS[name]
