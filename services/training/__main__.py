"""`python -m services.training`: wiring only."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path
from typing import Any

from modelry.training.v1 import internal_pb2_grpc, training_pb2_grpc
from services.chassis import telemetry
from services.chassis.auth import TokenIssuer
from services.chassis.bus import Bus, OutboxRelay, WorkerGate
from services.chassis.data import Database
from services.chassis.errors import ModelryError
from services.chassis.jobs import JobEngine
from services.chassis.launch import LocalLauncher
from services.chassis.rpc import Peers, RpcServer
from services.chassis.settings import load
from services.training import operations
from services.training.context import Desk, Machine
from services.training.estimate import Speed
from services.training.handlers import ModelHandlers
from services.training.neighbours import PeerNeighbours
from services.training.service import TrainingInternalServicer, TrainingServicer
from services.training.settings import TrainingSettings
from services.training.stage import TrainingStage
from services.training.store import JOB_TABLES

HERE = Path(__file__).parent
_logger = logging.getLogger(__name__)


class Sweeper:
    """Deletes the files of dropped checkpoints and deleted jobs."""

    def __init__(self, desk: Desk, seconds: float) -> None:
        self._desk, self._seconds = desk, seconds
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins."""
        self._task = asyncio.create_task(self._run(), name="sweeper")

    async def stop(self) -> None:
        """Ends."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await operations.sweep(self._desk)
            except ModelryError as error:
                _logger.warning("nothing can be swept now: %s", error)


async def serve(settings: TrainingSettings) -> None:
    """Runs the service until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sign, stopping.set)
    issuer = TokenIssuer(settings.token_secret.get_secret_value())
    peers = Peers(settings, issuer, "training")
    neighbours = PeerNeighbours(peers)
    database = await Database.open(settings.database_url, "training", HERE / "migrations")
    launcher = LocalLauncher.of_settings(settings.home, settings)
    bus = Bus(settings)
    relay = OutboxRelay(database, bus, settings)
    gate = WorkerGate(bus, settings.token_secret)
    stage = TrainingStage(database, neighbours, launcher, settings.job_cpus)
    engine = JobEngine(stage, JOB_TABLES, database, bus, launcher, settings)
    machine = Machine(launcher.capacity.slots, launcher.capacity.gpus, Speed(settings.tokens_per_second))
    desk = Desk(database, neighbours, stage, engine, machine)
    server = RpcServer(settings, issuer)
    server.add(
        TrainingServicer(desk),
        training_pb2_grpc.add_TrainingServiceServicer_to_server,
        "modelry.training.v1.TrainingService",
    )
    server.add(
        TrainingInternalServicer(desk),
        internal_pb2_grpc.add_TrainingInternalServiceServicer_to_server,
        "modelry.training.v1.TrainingInternalService",
    )
    consumers = ModelHandlers(desk).consumers(bus, settings)
    running: list[Any] = [gate, relay, *consumers, engine, Sweeper(desk, settings.sweep_seconds), server]
    await bus.start()
    for part in running:
        await part.start()
    await stopping.wait()
    for part in reversed(running):
        await part.stop()
    for closed in (bus, peers, database):
        await closed.close()


def main() -> None:
    """The process."""
    settings = load(TrainingSettings, service="training")
    telemetry.setup("training", settings)
    asyncio.run(serve(settings))
    telemetry.shutdown()


if __name__ == "__main__":
    main()
