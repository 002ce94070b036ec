"""`python -m services.evaluation`: settings, adapters and the list of parts."""

from pathlib import Path

from services.chassis.bus import WorkerGate
from services.chassis.garbage import GarbageCollector
from services.chassis.host import ServiceHost, run
from services.chassis.jobs import JobEngine, JobVerbs
from services.chassis.launch import LocalLauncher
from services.chassis.objects import StoreAccess
from services.chassis.rpc import Connections
from services.evaluation.clients import Clients
from services.evaluation.estimate import MeasuredSpeed
from services.evaluation.operations.context import ServiceContext
from services.evaluation.operations.intake import Benchmarks, EvaluationIntake
from services.evaluation.service import EvaluationServicer
from services.evaluation.settings import EvaluationSettings
from services.evaluation.stage import EvaluationStage
from services.evaluation.store import GARBAGE, JOB_TABLES

MIGRATIONS = Path(__file__).parent / "migrations"


async def assemble(host: ServiceHost[EvaluationSettings]) -> None:
    """Build the service on the real ones beside it."""
    settings = host.settings
    connections = Connections(settings, host.issuer, "evaluation")
    host.close_at_end(connections)
    add_parts(host, Clients.of(connections), LocalLauncher.of_settings(settings.home, settings))


def add_parts(host: ServiceHost[EvaluationSettings], clients: Clients, launcher: LocalLauncher) -> ServiceContext:
    """Build the service on given clients of the other services and a launcher."""
    settings = host.settings
    stage = EvaluationStage(host.database, clients, settings, capacity=launcher.capacity)
    engine = JobEngine(stage, JOB_TABLES, host.database, host.bus, launcher, settings)
    benchmarks = Benchmarks(StoreAccess.of_settings(settings), settings.objects_bucket, settings.benchmarks_prefix)
    speed = MeasuredSpeed(settings.choices_per_second, settings.tokens_per_second)
    intake = EvaluationIntake(clients, host.database, benchmarks, speed)
    verbs = JobVerbs(stage, intake, clients.reservations, host.database, engine)
    garbage = GarbageCollector(host.database, GARBAGE, clients.credentials.store_of)
    context = ServiceContext(host.database, engine, verbs, garbage)
    host.add(WorkerGate(host.bus, settings.token_secret), engine, garbage)
    host.serve(EvaluationServicer(context))
    return context


if __name__ == "__main__":
    run("evaluation", EvaluationSettings, MIGRATIONS, assemble)
