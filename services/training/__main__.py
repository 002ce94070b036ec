"""`python -m services.training`: settings, adapters and the list of parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from services.chassis.bus import WorkerGate
from services.chassis.host import ServiceHost, run
from services.chassis.jobs import JobEngine
from services.chassis.launch import LocalLauncher
from services.chassis.rpc import Peers
from services.training.context import Desk, Machine
from services.training.estimate import Speed
from services.training.handlers import ModelHandlers
from services.training.neighbours import Neighbours, PeerNeighbours
from services.training.service import TrainingInternalServicer, TrainingServicer
from services.training.settings import TrainingSettings
from services.training.specs import worker_argv
from services.training.stage import TrainingStage
from services.training.store import JOB_TABLES

MIGRATIONS = Path(__file__).parent / "migrations"


async def assemble(host: ServiceHost[TrainingSettings]) -> None:
    """Build the service on the real ones beside it."""
    settings = host.settings
    peers = Peers(settings, host.issuer, "training")
    host.close_at_end(peers)
    add_parts(host, PeerNeighbours(peers), LocalLauncher.of_settings(settings.home, settings))


def add_parts(
    host: ServiceHost[TrainingSettings],
    neighbours: Neighbours,
    launcher: LocalLauncher,
    program: Callable[[int], Sequence[str]] = worker_argv,
) -> Desk:
    """Build the service on given neighbours, a launcher and the worker's program."""
    settings, capacity = host.settings, launcher.capacity
    stage = TrainingStage(host.database, neighbours, launcher, settings.job_cpus, program)
    engine = JobEngine(stage, JOB_TABLES, host.database, host.bus, launcher, settings)
    machine = Machine(capacity.slots, capacity.gpus, Speed(settings.tokens_per_second))
    desk = Desk(host.database, neighbours, stage, engine, machine, settings.sweep_seconds)
    gate = WorkerGate(host.bus, settings.token_secret)
    host.add(gate, *ModelHandlers(desk).consumers(host.bus, settings), engine, desk.garbage)
    host.serve(TrainingServicer(desk))
    host.serve(TrainingInternalServicer(desk))
    return desk


def main() -> None:
    """The process."""
    run("training", TrainingSettings, MIGRATIONS, assemble)


if __name__ == "__main__":
    main()
