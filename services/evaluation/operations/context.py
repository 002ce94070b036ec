"""What the operations work with."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from services.chassis.data import Database
from services.chassis.garbage import Garbage, GarbageCollector
from services.chassis.jobs import JobEngine
from services.chassis.objects import StoreAccess
from services.evaluation.domain import Evaluation
from services.evaluation.estimate import Speed
from services.evaluation.neighbours import Neighbours
from services.evaluation.stage import EvaluationStage
from services.evaluation.store import GARBAGE


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

    @cached_property
    def garbage(self) -> GarbageCollector:
        """Deletes the files that nothing refers to any more."""

        async def open_store(garbage: Garbage) -> tuple[StoreAccess, str]:
            found = await self.neighbours.store(garbage.project, garbage.credential, garbage.bucket)
            return found.access, found.bucket

        return GarbageCollector(self.database, GARBAGE, open_store)
