"""What an evaluation may ask: every bad value is found before anything is made, and named by its path. Pure."""

import re
from collections.abc import Iterator
from dataclasses import replace

from services.chassis.errors import Invalid, Violation
from services.chassis.names import metadata_faults, name_faults
from services.evaluation.benchmarks import presets
from services.evaluation.domain import Evaluation, Task

MOST_CANDIDATES = 16
MOST_TASKS = 32
MOST_STOPS = 16
ID_PREFIXES = ("eval-",)
TASK_NAME = re.compile(r"[\w][\w .@/:+()-]{0,99}")


def check(evaluation: Evaluation) -> None:
    """Refuse an evaluation that cannot be right.

    Raises: Invalid, naming every field.
    """
    named = name_faults(evaluation.name, "evaluation.name", ID_PREFIXES) if evaluation.name else ()
    labels = metadata_faults(evaluation.metadata, "evaluation.")
    violations = [*named, *labels, *_targets(evaluation), *_tasks(evaluation), *_rest(evaluation)]
    if violations:
        raise Invalid.of(violations)


def target_path(index: int) -> str:
    """Return the path of the n-th target, the baseline first."""
    return "evaluation.baseline" if index == 0 else f"evaluation.candidates[{index - 1}]"


def labelled(evaluation: Evaluation) -> Evaluation:
    """Return the evaluation with a label on every target and a name on every task, each once."""
    labels = _once([target.label or target.ref for target in evaluation.targets])
    targets = [replace(target, label=label) for target, label in zip(evaluation.targets, labels, strict=True)]
    names = _once([task.name or task.benchmark or task.dataset for task in evaluation.tasks])
    tasks = tuple(replace(task, name=name) for task, name in zip(evaluation.tasks, names, strict=True))
    return replace(evaluation, baseline=targets[0], candidates=tuple(targets[1:]), tasks=tasks)


def _once(words: list[str]) -> list[str]:
    """Give words that occur again a number, so that a report tells them apart."""
    unique: list[str] = []
    for word in words:
        fresh, number = word, 2
        while fresh in unique:
            fresh, number = f"{word} ({number})", number + 1
        unique.append(fresh)
    return unique


def _targets(evaluation: Evaluation) -> Iterator[Violation]:
    if len(evaluation.candidates) > MOST_CANDIDATES:
        words = f"has {len(evaluation.candidates)} entries, and may have {MOST_CANDIDATES}"
        yield Violation.of("evaluation.candidates", words, "OUT_OF_RANGE")
    for index, target in enumerate(evaluation.targets):
        path = target_path(index)
        if not target.ref:
            yield Violation.of(path, "needs a model, a checkpoint or a deployment", "REQUIRED_FIELD")
    given = [target.label for target in evaluation.targets if target.label]
    for label in sorted({label for label in given if given.count(label) > 1}):
        yield Violation("evaluation.candidates", f"two targets have the label {label!r}", "DUPLICATE_LABEL")


def _tasks(evaluation: Evaluation) -> Iterator[Violation]:
    if not 1 <= len(evaluation.tasks) <= MOST_TASKS:
        words = f"has {len(evaluation.tasks)} entries, and must have 1 to {MOST_TASKS}"
        yield Violation.of("evaluation.tasks", words, "OUT_OF_RANGE")
    for index, task in enumerate(evaluation.tasks):
        path = f"evaluation.tasks[{index}]"
        if task.name and not TASK_NAME.fullmatch(task.name):
            yield Violation.of(f"{path}.name", f"is {task.name!r}: 1 to 100 letters, digits and ' .@/:+()-_'")
        if not task.benchmark and not task.dataset:
            yield Violation.of(path, "needs a preset benchmark or an own set", "REQUIRED_FIELD")
        elif task.preset:
            yield from _preset(task, f"{path}.preset")
    given = [task.name for task in evaluation.tasks if task.name]
    for name in sorted({name for name in given if given.count(name) > 1}):
        yield Violation("evaluation.tasks", f"two tasks have the name {name!r}", "DUPLICATE_NAME")


def _preset(task: Task, path: str) -> Iterator[Violation]:
    try:
        presets.preset(task.benchmark, split=task.split, shots=task.shots)
    except presets.PresetError as error:
        name = {"preset": "benchmark"}.get(error.field, error.field)
        yield Violation(f"{path}.{name}", f"{path}.{name}: {error}")
    if task.location:
        yield from _prefix(task.location.prefix, f"{path}.location.prefix")


def _rest(evaluation: Evaluation) -> Iterator[Violation]:
    generation = evaluation.generation
    if len(generation.stop) > MOST_STOPS or not all(generation.stop):
        words = f"may have {MOST_STOPS} strings, none of them empty"
        yield Violation.of("evaluation.generation.stop", words, "OUT_OF_RANGE")
    if evaluation.max_cost is not None and evaluation.max_cost < 0:
        yield Violation.of("evaluation.max_cost", "must not be negative", "OUT_OF_RANGE")
    yield from _prefix(evaluation.output.prefix, "evaluation.output.prefix")


def _prefix(prefix: str, path: str) -> Iterator[Violation]:
    if prefix.startswith("/") or len(prefix.encode()) > 1024:
        yield Violation.of(path, "must not begin with a slash and have at most 1,024 bytes")
