"""`python -m services.evaluation`: wiring only."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from modelry.evaluation.v1 import evaluation_pb2_grpc
from services.chassis import telemetry
from services.chassis.auth import TokenIssuer
from services.chassis.bus import Bus, OutboxRelay
from services.chassis.data import Database
from services.chassis.jobs import JobEngine
from services.chassis.launch import LocalLauncher
from services.chassis.objects import StoreAccess
from services.chassis.rpc import Peers, RpcServer
from services.chassis.settings import load
from services.evaluation.estimate import Speed
from services.evaluation.neighbours import PeerNeighbours
from services.evaluation.operations.context import Benchmarks, Desk
from services.evaluation.service import EvaluationServicer
from services.evaluation.settings import EvaluationSettings
from services.evaluation.stage import EvaluationStage
from services.evaluation.store import JOB_TABLES

MIGRATIONS = Path(__file__).parent / "migrations"


async def serve(settings: EvaluationSettings) -> None:
    """Runs the service until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sign, stopping.set)
    issuer = TokenIssuer(settings.token_secret.get_secret_value())
    peers = Peers(settings, issuer, "evaluation")
    database = await Database.open(settings.database_url, "evaluation", MIGRATIONS)
    bus = Bus(settings)
    relay = OutboxRelay(database, bus, settings)
    launcher = LocalLauncher.of_settings(settings.home, settings)
    neighbours = PeerNeighbours(peers)
    stage = EvaluationStage(database, neighbours, settings, capacity=launcher.capacity)
    engine = JobEngine(stage, JOB_TABLES, database, bus, launcher, settings)
    desk = Desk(database, neighbours, stage, engine, _benchmarks(settings), _speed(settings))
    server = RpcServer(settings, issuer)
    server.add(
        EvaluationServicer(desk),
        evaluation_pb2_grpc.add_EvaluationServiceServicer_to_server,
        "modelry.evaluation.v1.EvaluationService",
    )
    await bus.start()
    await relay.start()
    await engine.start()
    await server.start()
    await stopping.wait()
    await server.stop()
    await engine.stop()
    await relay.stop()
    await bus.close()
    await peers.close()
    await database.close()


def _benchmarks(settings: EvaluationSettings) -> Benchmarks:
    access = StoreAccess(
        settings.objects_endpoint,
        settings.objects_access_key,
        settings.objects_secret_key.get_secret_value(),
        settings.objects_region,
    )
    return Benchmarks(access, settings.objects_bucket, settings.benchmarks_prefix)


def _speed(settings: EvaluationSettings) -> Speed:
    return Speed(settings.choices_per_second, settings.tokens_per_second)


def main() -> None:
    """The process."""
    settings = load(EvaluationSettings, service="evaluation")
    telemetry.setup("evaluation", settings)
    asyncio.run(serve(settings))
    telemetry.shutdown()


if __name__ == "__main__":
    main()
