"""`python -m services.evaluation`: settings, adapters and the list of parts."""

from __future__ import annotations

from pathlib import Path

from services.chassis.bus import WorkerGate
from services.chassis.host import ServiceHost, run
from services.chassis.jobs import JobEngine
from services.chassis.launch import LocalLauncher
from services.chassis.objects import StoreAccess
from services.chassis.rpc import Peers
from services.evaluation.estimate import Speed
from services.evaluation.neighbours import Neighbours, PeerNeighbours
from services.evaluation.operations.context import Benchmarks, Desk
from services.evaluation.service import EvaluationServicer
from services.evaluation.settings import EvaluationSettings
from services.evaluation.stage import EvaluationStage
from services.evaluation.store import JOB_TABLES

MIGRATIONS = Path(__file__).parent / "migrations"


async def assemble(host: ServiceHost[EvaluationSettings]) -> None:
    """Build the service on the real ones beside it."""
    settings = host.settings
    peers = Peers(settings, host.issuer, "evaluation")
    host.close_at_end(peers)
    add_parts(host, PeerNeighbours(peers), LocalLauncher.of_settings(settings.home, settings))


def add_parts(host: ServiceHost[EvaluationSettings], neighbours: Neighbours, launcher: LocalLauncher) -> Desk:
    """Build the service on given neighbours and a launcher."""
    settings = host.settings
    stage = EvaluationStage(host.database, neighbours, settings, capacity=launcher.capacity)
    engine = JobEngine(stage, JOB_TABLES, host.database, host.bus, launcher, settings)
    benchmarks = Benchmarks(StoreAccess.of_settings(settings), settings.objects_bucket, settings.benchmarks_prefix)
    speed = Speed(settings.choices_per_second, settings.tokens_per_second)
    desk = Desk(host.database, neighbours, stage, engine, benchmarks, speed)
    host.add(WorkerGate(host.bus, settings.token_secret), engine, desk.garbage)
    host.serve(EvaluationServicer(desk))
    return desk


def main() -> None:
    """The process."""
    run("evaluation", EvaluationSettings, MIGRATIONS, assemble)


if __name__ == "__main__":
    main()
