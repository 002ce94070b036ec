"""What the operations of training work with."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from services.chassis.data import Database
from services.chassis.garbage import PERIOD_SECONDS, Garbage, GarbageCollector
from services.chassis.jobs import JobEngine
from services.chassis.objects import StoreAccess
from services.training.domain import Job
from services.training.estimate import Speed
from services.training.neighbours import Neighbours
from services.training.stage import TrainingStage
from services.training.store import GARBAGE


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
    sweep_seconds: float = PERIOD_SECONDS
    """How often files are deleted that nothing refers to any more."""

    @cached_property
    def garbage(self) -> GarbageCollector:
        """Deletes those files."""

        async def open_store(garbage: Garbage) -> tuple[StoreAccess, str]:
            found = await self.neighbours.store(garbage.project, garbage.credential, garbage.bucket)
            return found.access, garbage.bucket or found.bucket

        return GarbageCollector(self.database, GARBAGE, open_store, self.sweep_seconds)
