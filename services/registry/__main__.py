"""`python -m services.registry`: wiring only."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import yaml

from modelry.registry.v1 import internal_pb2_grpc, registry_pb2_grpc
from services.chassis import telemetry
from services.chassis.auth import TokenIssuer
from services.chassis.bus import Bus, OutboxRelay
from services.chassis.clock import now
from services.chassis.data import Database
from services.chassis.launch import LocalLauncher
from services.chassis.objects import StoreAccess
from services.chassis.rpc import Peers, RpcServer
from services.chassis.settings import load
from services.registry.handlers import UserHandlers
from services.registry.operations.context import Desk
from services.registry.operations.models import install_presets
from services.registry.preparer import Preparer
from services.registry.service import RegistryInternalServicer, RegistryServicer
from services.registry.settings import RegistrySettings

HERE = Path(__file__).parent


def read_catalogue() -> list[dict[str, Any]]:
    """The presets that come with this version of Modelry."""
    presets: list[dict[str, Any]] = yaml.safe_load((HERE / "presets" / "catalogue.yaml").read_text("utf-8"))
    return presets


async def serve(settings: RegistrySettings) -> None:
    """Runs the service until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sign, stopping.set)
    issuer = TokenIssuer(settings.token_secret.get_secret_value())
    peers = Peers(settings, issuer, "registry")
    system = StoreAccess(
        settings.objects_endpoint,
        settings.objects_access_key,
        settings.objects_secret_key.get_secret_value(),
        settings.objects_region,
    )
    database = await Database.open(settings.database_url, "registry", HERE / "migrations")
    desk = Desk(database, peers, system, settings.objects_bucket, settings.hold_seconds)
    await install_presets(desk, catalogue := read_catalogue(), now())
    bus = Bus(settings)
    relay = OutboxRelay(database, bus, settings)
    consumers = UserHandlers(desk).consumers(bus, settings)
    preparer = Preparer(desk, LocalLauncher.of_settings(settings.home, settings), settings, catalogue)
    server = RpcServer(settings, issuer)
    server.add(
        RegistryServicer(desk),
        registry_pb2_grpc.add_RegistryServiceServicer_to_server,
        "modelry.registry.v1.RegistryService",
    )
    server.add(
        RegistryInternalServicer(desk),
        internal_pb2_grpc.add_RegistryInternalServiceServicer_to_server,
        "modelry.registry.v1.RegistryInternalService",
    )
    running: list[Any] = [relay, *consumers, preparer, server]
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
    settings = load(RegistrySettings, service="registry")
    telemetry.setup("registry", settings)
    asyncio.run(serve(settings))
    telemetry.shutdown()


if __name__ == "__main__":
    main()
