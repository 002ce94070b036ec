"""Evaluations, their samples and reports, stop-word lists: what they are and which rules they keep. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from services.chassis.errors import WrongState
from services.chassis.jobs import PricedJob
from services.chassis.locations import ObjectLocation


class TargetKind(StrEnum):
    """What a target is given as."""

    MODEL = "MODEL"
    CHECKPOINT = "CHECKPOINT"
    DEPLOYMENT = "DEPLOYMENT"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A model of an evaluation: what was typed, and the version that it became when the evaluation was made."""

    kind: TargetKind = TargetKind.MODEL
    ref: str = ""
    label: str = ""
    model_version_id: str = ""
    """Of a checkpoint that is not published: the base that it adapts."""
    parameter_count: int = 0


@dataclass(frozen=True, kw_only=True)
class Task:
    """One set of questions: a preset benchmark where `benchmark` is set, else an own set."""

    name: str = ""
    benchmark: str = ""
    shots: int | None = None
    split: str = ""
    location: ObjectLocation | None = None
    """None: the installation's own copy of the benchmark."""
    subjects: tuple[str, ...] = ()
    dataset: str = ""
    dataset_version_id: str = ""
    stopword_lists: tuple[str, ...] = ()
    """As they were typed."""
    stopword_list_ids: tuple[str, ...] = ()
    """What they became: the name of a preset, the id of an own list."""
    system_prompt: str = ""
    max_samples: int = 0
    question_count: int = 0
    """Questions of one target, as far as it is known when the evaluation is made."""

    @property
    def preset(self) -> bool:
        """Whether it is a preset benchmark."""
        return bool(self.benchmark)


@dataclass(frozen=True, kw_only=True)
class Generation:
    """How answers are generated, every default filled in."""

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Evaluation(PricedJob):
    """One comparison of candidates with a baseline."""

    baseline: Target = field(default_factory=Target)
    candidates: tuple[Target, ...] = ()
    tasks: tuple[Task, ...] = ()
    generation: Generation = field(default_factory=Generation)
    output: ObjectLocation = field(default_factory=ObjectLocation)
    sample_count: int = 0

    @property
    def targets(self) -> tuple[Target, ...]:
        """The baseline, then the candidates."""
        return (self.baseline, *self.candidates)

    @property
    def question_count(self) -> int:
        """Questions over all targets, as far as it is known before the start."""
        return sum(task.question_count for task in self.tasks) * len(self.targets)

    @property
    def report_prefix(self) -> str:
        """Below which all attempts write."""
        return f"{self.output.prefix}/{self.id}"

    def attempt_prefix(self, attempt: int) -> str:
        """Return where one attempt writes, and nothing else does."""
        return f"{self.report_prefix}/{attempt}"


@dataclass(frozen=True, kw_only=True)
class StoredSample:
    """A sample as the service keeps it, to list, filter and sort."""

    id: str
    """Sorts by task, question, target."""
    project: str
    evaluation_id: str
    task: str
    target: str
    number: int
    subject: str
    prompt: str
    references: tuple[str, ...]
    output: str
    scores: dict[str, float]
    score: float | None
    version: int = 1


@dataclass(frozen=True, kw_only=True)
class ReportPart:
    """A piece of a report, as a worker sent it: `rows` of scores, comparisons or settings, or the main metrics."""

    id: str
    """Sorts in the order of sending."""
    project: str
    evaluation_id: str
    kind: str
    rows: tuple[dict[str, Any], ...]
    version: int = 1


@dataclass(frozen=True, kw_only=True)
class OwnStopwords:
    """A project's own stop-word list."""

    id: str
    project: str
    name: str
    words: tuple[str, ...]
    digest: str
    create_time: datetime
    version: int = 1


def refuse_report(evaluation: Evaluation) -> None:
    """Refuse an evaluation without a report. Raises: WrongState."""
    if evaluation.state != "SUCCEEDED":
        ref = evaluation.name or evaluation.id
        raise WrongState.of("evaluation", ref, "report on", str(evaluation.state), ("SUCCEEDED",), "REPORT_NOT_READY")


def sample_id(evaluation: Evaluation, row: Mapping[str, Any]) -> str:
    """Return the id of a sample: sorts by task, question, target in the order in which the evaluation names them."""
    tasks = [task.name for task in evaluation.tasks]
    labels = [target.label for target in evaluation.targets]
    task, label = tasks.index(row["task"]), labels.index(row["target"])
    return f"{evaluation.id}.{task:02}.{int(row['index']):08}.{label:02}"
