"""`python -m services.access`: wiring only."""

from __future__ import annotations

import asyncio
import importlib.metadata
import signal
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Protocol

from modelry.access.v1 import access_pb2_grpc
from modelry.access.v1 import internal_pb2_grpc as access_internal
from modelry.billing.v1 import billing_pb2_grpc
from modelry.billing.v1 import internal_pb2_grpc as billing_internal
from modelry.events.v1 import events_pb2_grpc
from services.access.handlers import consumers
from services.access.maintenance import Keeping, Propagation
from services.access.operations.bootstrap import bootstrap
from services.access.operations.credentials import OwnStore, Stores
from services.access.operations.keys import BUCKET, all_records
from services.access.operations.server import ServerFacts
from services.access.service.access import AccessService
from services.access.service.billing import BillingInternalService, BillingService
from services.access.service.context import Parts
from services.access.service.events import EventService
from services.access.service.internal import AccessInternalService
from services.access.settings import AccessSettings
from services.access.store import AccessUnit
from services.chassis import telemetry
from services.chassis.auth import TokenIssuer
from services.chassis.bus import Bus, KvKeeper, OutboxRelay, WorkerGate
from services.chassis.clock import now
from services.chassis.data import Database
from services.chassis.errors import ModelryError
from services.chassis.rpc import RpcServer
from services.chassis.settings import load, refuse_start
from services.chassis.vault import Vault

MIGRATIONS = Path(__file__).parent / "migrations"


class Background(Protocol):
    """What runs beside the server."""

    async def start(self) -> None:
        """Begin, and return at once."""

    async def stop(self) -> None:
        """End."""


@dataclass(frozen=True)
class Started:
    """A running access: where it listens, and what it stands on."""

    port: int
    database: Database
    bus: Bus


async def serve(settings: AccessSettings) -> None:
    """Run the service until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sign, stopping.set)
    async with AsyncExitStack() as running:
        await start(settings, running)
        await stopping.wait()


async def start(settings: AccessSettings, running: AsyncExitStack) -> Started:
    """Start everything; `running` stops it again, in the reverse order."""
    issuer, stores = secrets_of(settings)
    database = await Database.open(settings.database_url, "access", MIGRATIONS)
    running.push_async_callback(database.close)
    read, write = partial(AccessUnit, database, write=False), partial(AccessUnit, database)
    try:
        await bootstrap(settings.home / "admin.key", settings.bootstrap_key.get_secret_value(), write(), now())
    except ModelryError as error:
        refuse_start(f"MODELRY_BOOTSTRAP_KEY: {error.message}")
    bus = Bus(settings)
    relay = OutboxRelay(database, bus, settings)
    hold = timedelta(seconds=settings.hold_seconds)
    propagation = Propagation(read, relay, settings.propagation_seconds)
    parts = Parts(read, write, stores, propagation.wait, facts_of(settings), hold)
    keeper = KvKeeper(bus, BUCKET, lambda: all_records(read()), settings)
    await bus.start()
    running.push_async_callback(bus.close)
    gate = WorkerGate(bus, settings.token_secret)
    beside: list[Background] = [relay, keeper, gate, *consumers(bus, database, write, settings)]
    for background in beside:
        await background.start()
        running.push_async_callback(background.stop)
    keeping = Keeping(read, write, stores, hold)
    await keeping.start(settings.sweep_seconds)
    running.push_async_callback(keeping.stop)
    server = server_of(settings, issuer, parts, bus)
    port = await server.start()
    running.push_async_callback(server.stop)
    return Started(port, database, bus)


def secrets_of(settings: AccessSettings) -> tuple[TokenIssuer, Stores]:
    """What is made of the installation's secrets; a wrong one stops the start with its name."""
    try:
        issuer = TokenIssuer(settings.token_secret.get_secret_value())
        vault = Vault.of(settings.vault_key.get_secret_value())
    except ValueError as error:
        refuse_start(f"access cannot start: {error}.")
    builtin = OwnStore(
        settings.objects_endpoint,
        settings.objects_access_key,
        settings.objects_secret_key.get_secret_value(),
        settings.objects_region,
    )
    return issuer, Stores(builtin, vault)


def facts_of(settings: AccessSettings) -> ServerFacts:
    """What `serverInfo` shows of the installation."""
    configured = {"http": settings.http_address, "grpc": settings.grpc_address, "nats": settings.nats_address}
    try:
        version = importlib.metadata.version("modelry")
    except importlib.metadata.PackageNotFoundError:
        version = "0"
    return ServerFacts(version, settings.currency, configured, settings.home / "state.json")


def server_of(settings: AccessSettings, issuer: TokenIssuer, parts: Parts, bus: Bus) -> RpcServer:
    """The server with the three areas."""
    server = RpcServer(settings, issuer)
    server.add(
        AccessService(parts),
        access_pb2_grpc.add_AccessServiceServicer_to_server,
        "modelry.access.v1.AccessService",
    )
    server.add(
        AccessInternalService(parts),
        access_internal.add_AccessInternalServiceServicer_to_server,
        "modelry.access.v1.AccessInternalService",
    )
    server.add(
        BillingService(parts),
        billing_pb2_grpc.add_BillingServiceServicer_to_server,
        "modelry.billing.v1.BillingService",
    )
    server.add(
        BillingInternalService(parts),
        billing_internal.add_BillingInternalServiceServicer_to_server,
        "modelry.billing.v1.BillingInternalService",
    )
    server.add(
        EventService(bus),
        events_pb2_grpc.add_EventServiceServicer_to_server,
        "modelry.events.v1.EventService",
    )
    return server


def main() -> None:
    """The process."""
    settings = load(AccessSettings, service="access")
    telemetry.setup("access", settings)
    asyncio.run(serve(settings))
    telemetry.shutdown()


if __name__ == "__main__":
    main()
