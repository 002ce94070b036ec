"""What the operations work with."""

from dataclasses import dataclass

from services.chassis.data import Database
from services.chassis.garbage import GarbageCollector
from services.chassis.jobs import JobEngine, JobVerbs
from services.evaluation.domain import Evaluation


@dataclass(frozen=True)
class ServiceContext:
    """The database, the engine that runs evaluations, and the verbs that change them."""

    database: Database
    engine: JobEngine[Evaluation]
    verbs: JobVerbs[Evaluation]
    garbage: GarbageCollector
