"""Looks up everything that an evaluation names, once, when it is quoted or made; names the field of what is wrong."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from typing import TypeVar

from services.chassis.errors import Denied, Invalid, NotFound, Unavailable, WrongState
from services.chassis.objects import AsyncObjectStore, folder_prefix
from services.evaluation.benchmarks import presets
from services.evaluation.checks import check, labelled, target_path
from services.evaluation.domain import Evaluation, Place, Target, TargetKind, Task
from services.evaluation.operations.context import Desk
from services.evaluation.scoring import stopwords
from services.evaluation.store import EvaluationUnit

OUTPUT_PREFIX = "evaluations"
QUESTION_BYTES = 400
"""Mean size of a question in a CSV file, to estimate how many there are before they are read."""
_T = TypeVar("_T")


async def resolve(desk: Desk, draft: Evaluation) -> Evaluation:
    """The draft with every reference looked up; nothing is held.

    Raises: Invalid, NotFound, WrongState, Denied, Unavailable, naming the field.
    """
    check(draft)
    named = labelled(draft)
    targets = [await _target(desk, named, index, target) for index, target in enumerate(named.targets)]
    tasks = [await _task(desk, named, index, task) for index, task in enumerate(named.tasks)]
    output = named.output
    store = await look("evaluation.output", desk.neighbours.store(named.project, output.credential, output.bucket))
    return replace(
        named,
        baseline=targets[0],
        candidates=tuple(targets[1:]),
        tasks=tuple(tasks),
        output=Place(
            credential=output.credential or "builtin",
            bucket=store.bucket,
            prefix=(output.prefix or OUTPUT_PREFIX).rstrip("/"),
        ),
    )


async def look(path: str, answer: Awaitable[_T]) -> _T:
    """An answer of a neighbour; what it refuses is said of the field that asked for it."""
    try:
        return await answer
    except Invalid as error:
        raise Invalid(f"{path}: {error.message}", field=path, reason=error.reason) from error
    except (NotFound, WrongState, Denied) as error:
        metadata = {**error.metadata, "field": path}
        raise type(error)(f"{path}: {error.message}", reason=error.reason, metadata=metadata) from error


async def _target(desk: Desk, draft: Evaluation, index: int, target: Target) -> Target:
    path, project = target_path(index), draft.project
    reference = target.model_version_id or target.ref
    if target.kind is TargetKind.CHECKPOINT:
        path += ".checkpoint"
        reference = (await look(path, desk.neighbours.checkpoint(project, target.ref))).base_model_version_id
    elif target.kind is TargetKind.DEPLOYMENT:
        path += ".deployment"
        reference = await look(path, desk.neighbours.deployment(project, target.ref))
    else:
        path += ".model"
    info = await look(path, desk.neighbours.model(project, reference))
    if info.state == "FAILED":
        raise WrongState(f"{path}: {target.ref} could not be prepared: {info.failure}", reason="MODEL_NOT_READY")
    return replace(target, model_version_id=info.version_id, parameter_count=info.parameter_count)


async def _task(desk: Desk, draft: Evaluation, index: int, task: Task) -> Task:
    path = f"evaluation.tasks[{index}]"
    if task.preset:
        return await _preset(desk, draft.project, f"{path}.preset", task)
    info = await look(
        f"{path}.custom.dataset", desk.neighbours.dataset(draft.project, task.dataset_version_id or task.dataset)
    )
    field = f"{path}.custom.dataset"
    if not info.evaluation_pairs:
        message = f"{field}: {task.dataset} has no references to score with; import it as evaluation pairs."
        raise Invalid(message, field=field, reason="WRONG_DATASET_KIND")
    if info.row_count == 0:
        raise Invalid(f"{field}: {task.dataset} has no rows.", field=field, reason="EMPTY_DATASET")
    lists = await _stopwords(desk, draft.project, f"{path}.custom.stopword_lists", task.stopword_lists)
    count = min(info.row_count, task.max_samples) if task.max_samples else info.row_count
    return replace(task, dataset_version_id=info.version_id, stopword_list_ids=lists, question_count=count)


async def _stopwords(desk: Desk, project: str, path: str, lists: tuple[str, ...]) -> tuple[str, ...]:
    found = []
    async with EvaluationUnit(desk.database, write=False) as uow:
        for index, ref in enumerate(lists):
            if ref in stopwords.PRESETS:
                found.append(ref)
            else:
                found.append((await look(f"{path}[{index}]", uow.stopwords.get(project, ref))).id)
    return tuple(dict.fromkeys(found))


async def _preset(desk: Desk, project: str, path: str, task: Task) -> Task:
    """Check that the benchmark's files are there, and estimate how many questions they hold."""
    preset = presets.preset(task.benchmark, split=task.split, shots=task.shots)
    own = task.location is None
    place = task.location or Place(bucket=desk.benchmarks.bucket, prefix=f"{desk.benchmarks.prefix}/{task.benchmark}")
    field = f"{path}.location"
    access, bucket = desk.benchmarks.access, desk.benchmarks.bucket
    if not own:
        store = await look(field, desk.neighbours.store(project, place.credential, place.bucket))
        access, bucket = store.access, store.bucket
    try:
        entries = await AsyncObjectStore(access).list(bucket, folder_prefix(place.prefix))
    except (NotFound, Denied, Invalid) as error:
        raise Invalid(f"{field}: {error.message}", field=field, reason=error.reason) from error
    except Unavailable as error:
        raise Unavailable(f"{field}: {error.message}", reason=error.reason, metadata={"field": field}) from error
    size, subjects = 0, 0
    for entry in entries:
        folders = entry.key.removeprefix(folder_prefix(place.prefix)).split("/")
        if entry.key.endswith(".csv") and preset.split in folders[:-1]:
            size, subjects = size + entry.size, subjects + 1
    if not subjects:
        hint = "give `location` of a copy in its original layout" if own else "check `prefix`"
        where = f"{preset.split}/ below {bucket}/{place.prefix}"
        message = f"{field}: there are no CSV files of {preset.title} in {where}; {hint}."
        raise Invalid(message, field=field, reason="BENCHMARK_NOT_FOUND")
    count = max(subjects, size // QUESTION_BYTES)
    if task.subjects:
        count = max(1, count * min(len(task.subjects), subjects) // subjects)
    if task.max_samples:
        count = min(count, task.max_samples * (len(task.subjects) or subjects))
    return replace(task, location=None if own else replace(place, bucket=bucket), question_count=count)
