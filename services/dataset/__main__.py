"""`python -m services.dataset`: wiring only."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from modelry.dataset.v1 import dataset_pb2_grpc, internal_pb2_grpc
from services.chassis import telemetry
from services.chassis.auth import TokenIssuer
from services.chassis.bus import Bus, OutboxRelay
from services.chassis.data import Database
from services.chassis.objects import StoreAccess
from services.chassis.rpc import Peers, RpcServer
from services.chassis.settings import load
from services.dataset.handlers import HoldHandlers
from services.dataset.importer import Importer
from services.dataset.operations.context import Desk
from services.dataset.service import DatasetInternalServicer, DatasetServicer
from services.dataset.settings import DatasetSettings
from services.dataset.sources import Sources

MIGRATIONS = Path(__file__).parent / "migrations"


async def serve(settings: DatasetSettings) -> None:
    """Runs the service until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sign, stopping.set)
    issuer = TokenIssuer(settings.token_secret.get_secret_value())
    peers = Peers(settings, issuer, "dataset")
    access = StoreAccess(
        settings.objects_endpoint,
        settings.objects_access_key,
        settings.objects_secret_key.get_secret_value(),
        settings.objects_region,
    )
    database = await Database.open(settings.database_url, "dataset", MIGRATIONS)
    desk = Desk(database, Sources(peers, access, settings.objects_bucket), settings.hold_seconds)
    bus = Bus(settings)
    relay = OutboxRelay(database, bus, settings)
    consumers = HoldHandlers(desk).consumers(bus, settings)
    importer = Importer(
        desk,
        settings.home,
        parallel=settings.parallel_imports,
        look_seconds=settings.reconcile_seconds,
        lease_seconds=settings.lease_seconds,
    )
    server = _server(settings, issuer, desk)
    await bus.start()
    await relay.start()
    for consumer in consumers:
        await consumer.start()
    await importer.start()
    await server.start()
    await stopping.wait()
    await server.stop()
    await importer.stop()
    for consumer in consumers:
        await consumer.stop()
    await relay.stop()
    await bus.close()
    await peers.close()
    await database.close()


def _server(settings: DatasetSettings, issuer: TokenIssuer, desk: Desk) -> RpcServer:
    server = RpcServer(settings, issuer)
    server.add(
        DatasetServicer(desk, settings.home / "work" / "uploads"),
        dataset_pb2_grpc.add_DatasetServiceServicer_to_server,
        "modelry.dataset.v1.DatasetService",
    )
    server.add(
        DatasetInternalServicer(desk),
        internal_pb2_grpc.add_DatasetInternalServiceServicer_to_server,
        "modelry.dataset.v1.DatasetInternalService",
    )
    return server


def main() -> None:
    """The process."""
    settings = load(DatasetSettings, service="dataset")
    telemetry.setup("dataset", settings)
    asyncio.run(serve(settings))
    telemetry.shutdown()


if __name__ == "__main__":
    main()
