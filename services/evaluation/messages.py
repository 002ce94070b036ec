"""Messages of the API to values of the rules, and back."""

from datetime import datetime
from typing import Any

from google.protobuf import json_format

from modelry.evaluation.v1 import evaluation_pb2 as pb
from services.chassis.jobs import JobView, State
from services.chassis.proto_values import amount_of, message_of, money_of, timestamp_of, value_of
from services.evaluation.benchmarks.categories import shipped_categories
from services.evaluation.benchmarks.presets import Preset
from services.evaluation.domain import Evaluation, OwnStopwords, StoredSample, Target, TargetKind, Task
from services.evaluation.scoring.stopwords import StopWords

_STATES = {State.PAUSING: State.RUNNING, State.PAUSED: State.QUEUED, State.RESUMING: State.QUEUED}
"""Evaluations cannot be paused; one that resumes after its worker died waits for a slot like a queued one."""


def draft_of(message: pb.Evaluation, project: str, moment: datetime) -> Evaluation:
    """Return what a caller wants made, with every default filled in; what only the system sets is ignored."""
    return value_of(
        Evaluation,
        message,
        id="",
        project=project,
        create_time=moment,
        update_time=moment,
        baseline=_target(message.baseline),
        candidates=tuple(_target(target) for target in message.candidates),
        tasks=tuple(_task(task) for task in message.tasks),
        max_cost=amount_of(message.max_cost, "evaluation.max_cost") if message.HasField("max_cost") else None,
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
    return value_of(Task, message.custom if message.HasField("custom") else message.preset, name=message.name)


def evaluation_message(view: JobView[Evaluation]) -> pb.Evaluation:
    """Return an evaluation as it is shown."""
    evaluation = view.job
    message = message_of(
        pb.Evaluation,
        evaluation,
        state=_STATES.get(evaluation.state, evaluation.state).name,
        baseline=_target_message(evaluation.baseline),
        candidates=[_target_message(target) for target in evaluation.candidates],
        tasks=[_task_message(task) for task in evaluation.tasks],
        cost=money_of(evaluation.cost(view.run_seconds)),
        attempt_count=evaluation.attempt,
        finish_time=timestamp_of(evaluation.end_time),
    )
    progress = view.progress
    if progress is not None:
        message.progress.phase = progress.phase
        message.progress.done = int(progress.done)
        message.progress.total = int(progress.total)
        if progress.eta_seconds is not None and not evaluation.state.ended:
            message.progress.eta.FromMilliseconds(int(progress.eta_seconds * 1000))
    return message


def _target_message(target: Target) -> pb.Target:
    return message_of(pb.Target, target, **{target.kind.lower(): target.ref})


def _task_message(task: Task) -> pb.Task:
    if task.preset:
        return pb.Task(name=task.name, preset=message_of(pb.Task.Preset, task))
    return pb.Task(name=task.name, custom=message_of(pb.Task.Custom, task))


def report_message(content: dict[str, Any]) -> pb.Report:
    """Return a report as it is shown; fields that a newer worker added are left out."""
    return json_format.ParseDict(content, pb.Report(), ignore_unknown_fields=True)


def sample_message(sample: StoredSample) -> pb.Sample:
    """Return a sample as it is shown; one without a score has no scores and 0."""
    return message_of(pb.Sample, sample, index=sample.number, group=sample.subject)


def benchmark_message(preset: Preset) -> pb.Benchmark:
    """Return a preset benchmark as it is shown."""
    return message_of(
        pb.Benchmark,
        preset,
        splits=preset.splits[:-1],  # the last one is dev, which the examples come from
        category_by_subject=dict(shipped_categories(preset.layout).category),
        license=preset.license,
        prompt_format=preset.header + preset.question,
    )


def stopwords_message(shown: StopWords | OwnStopwords, *, words: bool = True) -> pb.StopwordList:
    """Return a preset list or an own one as it is shown; in lists without its words."""
    if isinstance(shown, OwnStopwords):
        return message_of(pb.StopwordList, shown, words=shown.words if words else ())
    listed = sorted(shown.words) if words else ()
    return message_of(pb.StopwordList, shown, id=shown.name, words=listed, preset=True)
