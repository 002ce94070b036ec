"""Reports and samples of evaluations, and the preset benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.chassis.data import Page, PageQuery
from services.chassis.errors import NotFound
from services.evaluation.benchmarks.presets import PRESETS, Preset
from services.evaluation.domain import Evaluation, StoredSample, refuse_report
from services.evaluation.operations.context import ServiceContext
from services.evaluation.store import EvaluationUnit


@dataclass(frozen=True)
class StoredReport:
    """A report, in the JSON form of the API's Report."""

    evaluation: Evaluation
    content: dict[str, Any]


async def get_report(project: str, ref: str, context: ServiceContext) -> StoredReport:
    """Return the report of a succeeded evaluation. Raises NotFound, WrongState before it succeeded."""
    async with EvaluationUnit(context.database, write=False) as uow:
        evaluation = await uow.evaluations.get(project, ref)
        refuse_report(evaluation)
        parts = await uow.parts_of(evaluation.id)
    content: dict[str, Any] = {"evaluation_id": evaluation.id, "scores": [], "comparisons": [], "settings": []}
    for part in parts:
        if part.kind == "main_metrics":
            content["main_metrics"] = part.rows[0]
        else:
            content[part.kind] += part.rows
    place = evaluation.output
    prefix = evaluation.attempt_prefix(evaluation.attempt)
    content["location"] = {"credential": place.credential, "bucket": place.bucket, "prefix": prefix}
    return StoredReport(evaluation, content)


async def list_samples(project: str, ref: str, page: PageQuery, context: ServiceContext) -> Page[StoredSample]:
    """Return samples by task, question and target, or as asked; they come while it runs. Raises NotFound, Invalid."""
    async with EvaluationUnit(context.database, write=False) as uow:
        evaluation = await uow.evaluations.get(project, ref)
        return await uow.samples.list(project, page, evaluation_id=evaluation.id)


def get_benchmark(name: str) -> Preset:
    """Return one preset benchmark. Raises NotFound."""
    preset = PRESETS.get(name)
    if preset is None:
        raise NotFound.of("benchmark", name)
    return preset


def list_benchmarks() -> list[Preset]:
    """Return all preset benchmarks, in the order of their names."""
    return [PRESETS[name] for name in sorted(PRESETS)]
