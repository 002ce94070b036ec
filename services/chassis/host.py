"""The process of a service: what every service has, and its own parts, started in order and stopped in reverse.

    async def assemble(host: ServiceHost[RegistrySettings]) -> None:
        context = ServiceContext(host.database, …)
        host.serve(RegistryServicer(context))
        host.add(Preparer(context, host.settings))

    def main() -> None:
        run("registry", RegistrySettings, MIGRATIONS, assemble)

A test starts the same object with other settings, `async with ServiceHost(settings, MIGRATIONS, assemble) as host`.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import uvloop

from services.chassis import telemetry
from services.chassis.admin import AdminServicer
from services.chassis.auth import TokenIssuer
from services.chassis.background import BackgroundLoop
from services.chassis.bus import Bus
from services.chassis.data import Database, DeadLetters, sweep
from services.chassis.delivery import Consumer, Handler, OutboxRelay
from services.chassis.probes import DatabaseProbe, StoreProbe
from services.chassis.readiness import CanDegrade, CanStopAnswering, Lack
from services.chassis.rpc import Connections, RpcServer
from services.chassis.settings import Settings, load, refuse_start

HEALTH_SECONDS = 0.5
SWEEP_SECONDS = 3600.0

S = TypeVar("S", bound=Settings)


class Part(Protocol):
    """Something that runs beside the calls. It may also have `cannot_answer` and `degraded` (readiness.py)."""

    async def start(self) -> None:
        """Begin, and return soon; what it needs may still be away."""

    async def stop(self) -> None:
        """End."""


class ServiceHost(Generic[S]):
    """One service, running while the host is entered.

    Attributes:
        issuer, database, bus, relay: what every service has; `assemble` builds on them.
        port: where the server listens.
    """

    issuer: TokenIssuer
    database: Database
    bus: Bus
    relay: OutboxRelay
    port: int

    def __init__(self, settings: S, migrations: Path, assemble: Callable[[ServiceHost[S]], Awaitable[None]]) -> None:
        """Args: assemble: builds the service on the opened database: it calls `serve`, `add` and `close_at_end`."""
        self.settings = settings
        self._migrations, self._assemble = migrations, assemble
        self._running = AsyncExitStack()
        self._parts: list[Part] = []
        self._serving = True

    def serve(self, servicer: Any) -> None:
        """Answer the methods of a servicer."""
        self._server.offer(servicer)

    def add(self, *parts: Part) -> None:
        """Run parts beside the calls: started in this order before the server, stopped in reverse after it."""
        self._parts += parts

    def on_events(self, handler: Handler, *resources: str) -> None:
        """Hand the events of each of these resources to a handler, by a durable consumer `<service>-on-<resource>`."""
        for resource in resources:
            durable, subject = f"{self.settings.service}-on-{resource}", f"modelry.events.*.{resource}.>"
            self.add(Consumer(self.bus, self.database, durable, subject, handler, self.settings))

    def close_at_end(self, opened: Database | Connections) -> None:
        """Close something after all parts have stopped."""
        self._running.push_async_callback(opened.close)

    async def start(self) -> None:
        """Start everything; when one part fails to start, those before it are stopped again."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop everything, in the reverse order."""
        await self._running.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _start(self) -> None:
        settings = self.settings
        try:
            self.issuer = TokenIssuer(settings.token_secret.get_secret_value())
        except ValueError as error:
            refuse_start(f"{settings.service} cannot start: {error}.")
        self.database = await Database.open(
            settings.database_url, settings.service, self._migrations, settings.request_days
        )
        self.close_at_end(self.database)
        self.bus = Bus(settings)
        self.relay = OutboxRelay(self.database, self.bus, settings)
        self._server = RpcServer(settings, self.issuer)
        self.add(DatabaseProbe(self.database, settings.probe_seconds), self.relay)
        if settings.objects_endpoint:
            self.add(StoreProbe(settings.objects_endpoint, settings.probe_seconds, settings.ca_file))
        self.add(BackgroundLoop("sweep of old rows", lambda: sweep(self.database), SWEEP_SECONDS))
        await self._assemble(self)
        self.serve(AdminServicer(settings.service, self, DeadLetters(self.database), self.bus))
        await self._start_parts()

    async def _start_parts(self) -> None:
        await self.bus.start()
        self._running.push_async_callback(self.bus.close)
        for part in (*self._parts, BackgroundLoop("health", self._tell_health, HEALTH_SECONDS)):
            await part.start()
            self._running.push_async_callback(part.stop)
        self.port = await self._server.start(serving=self._serving)
        self._running.push_async_callback(self._server.stop)

    def cannot_answer(self) -> list[Lack]:
        """Return what is lacking so that no call can be answered: gRPC health says NOT_SERVING."""
        return [lack for part in self._parts if isinstance(part, CanStopAnswering) for lack in part.cannot_answer()]

    def degraded(self) -> list[Lack]:
        """Return what stands still while calls are answered."""
        parts = (self.bus, *self._parts)
        return [lack for part in parts if isinstance(part, CanDegrade) for lack in part.degraded()]

    async def _tell_health(self) -> None:
        serving = not self.cannot_answer()
        if serving != self._serving:
            await self._server.set_serving(serving)
            self._serving = serving


def run(
    service: str,
    settings_class: type[S],
    migrations: Path,
    assemble: Callable[[ServiceHost[S]], Awaitable[None]],
) -> None:
    """Run the process of a service until SIGTERM or SIGINT."""
    settings = load(settings_class, service=service)
    telemetry.setup(service, settings)
    try:
        uvloop.run(_until_signal(ServiceHost(settings, migrations, assemble)))
    finally:
        telemetry.shutdown()


async def _until_signal(host: ServiceHost[Any]) -> None:
    stopping = asyncio.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sign, stopping.set)
    async with host:
        await stopping.wait()
