"""`python -m services.serving`: wiring only."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

from modelry.serving.v1 import internal_pb2_grpc, serving_pb2_grpc
from services.chassis import telemetry
from services.chassis.auth import TokenIssuer
from services.chassis.bus import Bus, KvKeeper, OutboxRelay
from services.chassis.data import Database
from services.chassis.launch import LocalLauncher
from services.chassis.rpc import Peers, RpcServer
from services.chassis.settings import load
from services.serving.control.gateways import Gateways
from services.serving.control.programs import Programs
from services.serving.control.reconciler import Reconciler
from services.serving.control.weights import Weights
from services.serving.handlers import VersionHandlers
from services.serving.operations.context import ROUTES, Desk
from services.serving.operations.routes import all_routes
from services.serving.service import ServingInternalServicer, ServingServicer
from services.serving.settings import ServingSettings

HERE = Path(__file__).parent


async def serve(settings: ServingSettings) -> None:
    """Runs the service until SIGTERM or SIGINT; replicas go on."""
    stopping = asyncio.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sign, stopping.set)
    issuer = TokenIssuer(settings.token_secret.get_secret_value())
    peers = Peers(settings, issuer, "serving")
    database = await Database.open(settings.database_url, "serving", HERE / "migrations")
    launcher = LocalLauncher.of_settings(settings.home, settings)
    desk = Desk(database, peers, settings, len(launcher.capacity.cores))
    bus = Bus(settings)
    gateways = Gateways(settings.gateway_seconds)
    await gateways.listen(bus)
    weights = Weights(desk, Programs(launcher, settings.home, settings.prepare_seconds))
    keeper = KvKeeper(bus, ROUTES, lambda: all_routes(desk), settings)
    server = RpcServer(settings, issuer)
    server.add(
        ServingServicer(desk, launcher),
        serving_pb2_grpc.add_ServingServiceServicer_to_server,
        "modelry.serving.v1.ServingService",
    )
    server.add(
        ServingInternalServicer(desk),
        internal_pb2_grpc.add_ServingInternalServiceServicer_to_server,
        "modelry.serving.v1.ServingInternalService",
    )
    consumers = VersionHandlers(desk).consumers(bus, settings)
    reconciler = Reconciler(desk, launcher, weights, gateways)
    running: list[Any] = [OutboxRelay(database, bus, settings), keeper, *consumers, reconciler, server]
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
    settings = load(ServingSettings, service="serving")
    telemetry.setup("serving", settings)
    asyncio.run(serve(settings))
    telemetry.shutdown()


if __name__ == "__main__":
    main()
