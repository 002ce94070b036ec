"""`python -m services.training`: settings, adapters and the list of parts."""

from collections.abc import Callable, Sequence
from pathlib import Path

from services.chassis.bus import WorkerGate
from services.chassis.garbage import GarbageCollector
from services.chassis.host import ServiceHost, run
from services.chassis.jobs import JobEngine, JobVerbs
from services.chassis.launch import LocalLauncher
from services.chassis.rpc import Connections
from services.training.clients import Clients
from services.training.context import ServiceContext
from services.training.estimate import MeasuredSpeed
from services.training.handlers import ModelHandlers
from services.training.intake import Machine, TrainingIntake
from services.training.service import TrainingInternalServicer, TrainingServicer
from services.training.settings import TrainingSettings
from services.training.specs import worker_argv
from services.training.stage import TrainingStage
from services.training.store import GARBAGE, JOB_TABLES

MIGRATIONS = Path(__file__).parent / "migrations"


async def assemble(host: ServiceHost[TrainingSettings]) -> None:
    """Build the service on the real ones beside it."""
    settings = host.settings
    connections = Connections(settings, host.issuer, "training")
    host.close_at_end(connections)
    add_parts(host, Clients.of(connections), LocalLauncher.of_settings(settings.home, settings))


def add_parts(
    host: ServiceHost[TrainingSettings],
    clients: Clients,
    launcher: LocalLauncher,
    program: Callable[[int], Sequence[str]] = worker_argv,
) -> ServiceContext:
    """Build the service on given clients of the other services, a launcher and the worker's program."""
    settings, capacity = host.settings, launcher.capacity
    stage = TrainingStage(host.database, clients, launcher, settings.job_cpus, program)
    engine = JobEngine(stage, JOB_TABLES, host.database, host.bus, launcher, settings)
    machine = Machine(len(capacity.cores), capacity.gpus, MeasuredSpeed(settings.tokens_per_second))
    verbs = JobVerbs(stage, TrainingIntake(clients, machine), clients.reservations, host.database, engine)
    garbage = GarbageCollector(host.database, GARBAGE, clients.credentials.store_of, settings.sweep_seconds)
    context = ServiceContext(host.database, clients, stage, engine, verbs, garbage)
    gate = WorkerGate(host.bus, settings.token_secret)
    host.on_events(ModelHandlers(context).handle, "modelVersion")
    host.add(gate, engine, garbage)
    host.serve(TrainingServicer(context))
    host.serve(TrainingInternalServicer(context))
    return context


if __name__ == "__main__":
    run("training", TrainingSettings, MIGRATIONS, assemble)
