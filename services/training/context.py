"""What the operations of training work with."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.chassis.data import Database
from services.chassis.jobs import JobEngine
from services.training.domain import Job
from services.training.estimate import Speed
from services.training.neighbours import Neighbours
from services.training.stage import TrainingStage


@dataclass(frozen=True)
class Machine:
    """What the machine that trains gives out."""

    cpus: int = 0
    gpus: int = 0
    speed: Speed = field(default_factory=Speed)


@dataclass(frozen=True)
class Desk:
    """What the operations work with."""

    database: Database
    neighbours: Neighbours
    stage: TrainingStage
    engine: JobEngine[Job]
    machine: Machine
