"""What the operations work with."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.chassis.data import Database
from services.chassis.jobs import JobEngine
from services.chassis.objects import StoreAccess
from services.evaluation.domain import Evaluation
from services.evaluation.estimate import Speed
from services.evaluation.neighbours import Neighbours
from services.evaluation.stage import EvaluationStage


@dataclass(frozen=True)
class Benchmarks:
    """Where the installation's own copies of preset benchmarks are, a folder each."""

    access: StoreAccess
    bucket: str
    prefix: str


@dataclass(frozen=True)
class Desk:
    """The database, the neighbours, and the engine that runs evaluations."""

    database: Database
    neighbours: Neighbours
    stage: EvaluationStage
    engine: JobEngine[Evaluation]
    benchmarks: Benchmarks
    speed: Speed = field(default_factory=Speed)
