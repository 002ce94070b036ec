"""What the operations of training work with."""

from dataclasses import dataclass

from services.chassis.data import Database
from services.chassis.garbage import GarbageCollector
from services.chassis.jobs import JobEngine, JobVerbs
from services.training.clients import Clients
from services.training.domain import Job
from services.training.stage import TrainingStage


@dataclass(frozen=True)
class ServiceContext:
    """What the operations work with."""

    database: Database
    clients: Clients
    stage: TrainingStage
    engine: JobEngine[Job]
    verbs: JobVerbs[Job]
    garbage: GarbageCollector
