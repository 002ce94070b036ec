"""Messages of the API to values of the rules, and back."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from google.protobuf import json_format

from modelry.evaluation.v1 import evaluation_pb2 as pb
from services.chassis.jobs import State
from services.chassis.proto_values import amount_of, failure_of, location_message, location_of, money_of, timestamp_of
from services.evaluation.benchmarks.categories import shipped_categories
from services.evaluation.benchmarks.presets import Preset
from services.evaluation.domain import Evaluation, Generation, StoredSample, Target, TargetKind, Task
from services.evaluation.operations.evaluations import View
from services.evaluation.operations.stopwords import Shown

_STATES = {State.PAUSING: State.RUNNING, State.PAUSED: State.QUEUED, State.RESUMING: State.QUEUED}
"""Evaluations cannot be paused; one that resumes after its worker died waits for a slot like a queued one."""


def draft_of(message: pb.Evaluation, project: str, moment: datetime) -> Evaluation:
    """Return what a caller wants made, with every default filled in; what only the system sets is ignored."""
    wanted = message.generation
    cost = message.max_cost
    return Evaluation(
        id="",
        project=project,
        create_time=moment,
        update_time=moment,
        name=message.name,
        title=message.title,
        metadata=dict(message.metadata),
        baseline=_target(message.baseline),
        candidates=tuple(_target(target) for target in message.candidates),
        tasks=tuple(_task(task) for task in message.tasks),
        generation=Generation(
            max_tokens=wanted.max_tokens or 256,
            temperature=wanted.temperature,
            top_p=wanted.top_p or 1.0,
            repetition_penalty=wanted.repetition_penalty or 1.0,
            stop=tuple(wanted.stop),
            seed=wanted.seed,
        ),
        output=location_of(message.output),
        quote_id=message.quote_id,
        max_cost=amount_of(cost, "evaluation.max_cost") if message.HasField("max_cost") else None,
    )


def spec_of(message: pb.Evaluation) -> pb.Evaluation:
    """Return the part of an evaluation that decides its price: what a quote and its create must have in common."""
    spec = pb.Evaluation(
        baseline=message.baseline,
        candidates=message.candidates,
        tasks=message.tasks,
        generation=message.generation,
    )
    for target in (spec.baseline, *spec.candidates):
        target.ClearField("model_version_id")
    for task in spec.tasks:
        if task.HasField("custom"):
            task.custom.ClearField("dataset_version_id")
    return spec


def _target(message: pb.Target) -> Target:
    which = message.WhichOneof("subject")
    if which is None:
        return Target(label=message.label)
    return Target(kind=TargetKind(which.upper()), ref=getattr(message, which), label=message.label)


def _task(message: pb.Task) -> Task:
    if message.WhichOneof("kind") == "custom":
        custom = message.custom
        return Task(
            name=message.name,
            dataset=custom.dataset,
            stopword_lists=tuple(custom.stopword_lists),
            system_prompt=custom.system_prompt,
            max_samples=custom.max_samples,
        )
    preset = message.preset
    return Task(
        name=message.name,
        benchmark=preset.benchmark,
        shots=preset.shots if preset.HasField("shots") else None,
        split=preset.split,
        location=location_of(preset.location) if preset.HasField("location") else None,
        subjects=tuple(preset.subjects),
        max_samples=preset.max_samples,
    )


def evaluation_message(view: View) -> pb.Evaluation:
    """Return an evaluation as it is shown."""
    evaluation = view.evaluation
    generation = evaluation.generation
    message = pb.Evaluation(
        id=evaluation.id,
        name=evaluation.name,
        title=evaluation.title,
        metadata=evaluation.metadata,
        etag=str(evaluation.version),
        state=pb.Evaluation.State.Value(_STATES.get(evaluation.state, evaluation.state).name),
        baseline=_target_message(evaluation.baseline),
        candidates=[_target_message(target) for target in evaluation.candidates],
        tasks=[_task_message(task) for task in evaluation.tasks],
        generation=pb.Generation(
            max_tokens=generation.max_tokens,
            temperature=generation.temperature,
            top_p=generation.top_p,
            repetition_penalty=generation.repetition_penalty,
            stop=generation.stop,
            seed=generation.seed,
        ),
        output=location_message(evaluation.output),
        quote_id=evaluation.quote_id,
        cost=money_of(view.cost),
        attempt_count=evaluation.attempt,
        version=evaluation.version,
        cause=evaluation.cause,
        create_time=timestamp_of(evaluation.create_time),
        start_time=timestamp_of(evaluation.start_time),
        finish_time=timestamp_of(evaluation.end_time),
        max_cost=money_of(evaluation.max_cost),
        failure=failure_of(evaluation.failure),
    )
    _fill(message, view)
    return message


def _fill(message: pb.Evaluation, view: View) -> None:
    progress = view.progress
    if progress is not None:
        message.progress.phase = progress.phase
        message.progress.done = int(progress.done)
        message.progress.total = int(progress.total)
        if progress.eta_seconds is not None and not view.evaluation.state.ended:
            message.progress.eta.FromMilliseconds(int(progress.eta_seconds * 1000))


def _target_message(target: Target) -> pb.Target:
    message = pb.Target(model_version_id=target.model_version_id, label=target.label)
    setattr(message, target.kind.lower(), target.ref)
    return message


def _task_message(task: Task) -> pb.Task:
    if not task.preset:
        custom = pb.Task.Custom(
            dataset=task.dataset,
            stopword_lists=task.stopword_lists,
            max_samples=task.max_samples,
            dataset_version_id=task.dataset_version_id,
            system_prompt=task.system_prompt,
        )
        return pb.Task(name=task.name, custom=custom)
    preset = pb.Task.Preset(
        benchmark=task.benchmark,
        shots=task.shots,
        split=task.split,
        subjects=task.subjects,
        max_samples=task.max_samples,
    )
    if task.location is not None:
        preset.location.CopyFrom(location_message(task.location))
    return pb.Task(name=task.name, preset=preset)


def report_message(content: dict[str, Any]) -> pb.Report:
    """Return a report as it is shown; fields that a newer worker added are left out."""
    message = pb.Report()
    json_format.ParseDict(content, message, ignore_unknown_fields=True)
    return message


def sample_message(sample: StoredSample) -> pb.Sample:
    """Return a sample as it is shown; one without a score has no scores and 0."""
    return pb.Sample(
        task=sample.task,
        target=sample.target,
        index=sample.number,
        group=sample.subject,
        prompt=sample.prompt,
        references=sample.references,
        output=sample.output,
        scores=sample.scores,
        score=sample.score or 0.0,
    )


def benchmark_message(preset: Preset) -> pb.Benchmark:
    """Return a preset benchmark as it is shown."""
    return pb.Benchmark(
        name=preset.name,
        title=preset.title,
        language=preset.language,
        shots=preset.shots,
        split=preset.split,
        splits=preset.splits[:-1],  # the last one is dev, which the examples come from
        category_by_subject=dict(shipped_categories(preset.layout).category),
        license=preset.license,
        prompt_format=preset.header + preset.question,
    )


def stopwords_message(shown: Shown, *, words: bool = True) -> pb.StopwordList:
    """Return a stop-word list as it is shown; in lists without its words."""
    return pb.StopwordList(
        id=shown.id,
        name=shown.name,
        words=shown.words if words else (),
        digest=shown.digest,
        preset=shown.preset,
        create_time=timestamp_of(shown.create_time),
    )
