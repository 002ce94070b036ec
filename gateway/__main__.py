"""The gateway's process: wiring only."""

import asyncio
import signal
import ssl

import uvloop
from aiohttp import web

from gateway.administration import Administration
from gateway.app import build_app
from gateway.authentication import Authenticator
from gateway.channels import open_channels
from gateway.grpc_proxy import GrpcProxy, open_grpc_proxy
from gateway.keys import KeyRing
from gateway.kv_follower import KvFollower
from gateway.native import NativeApi
from gateway.openai import OpenAiApi
from gateway.proxy import Proxy, wait_for_calls
from gateway.routes import RouteView
from gateway.settings import GatewaySettings
from gateway.tls import certificate_of
from gateway.usage import UsageJournal
from modelry.api_methods import SERVICES
from services.chassis import telemetry
from services.chassis.auth import TokenIssuer
from services.chassis.bus import Bus
from services.chassis.errors import ModelryError
from services.chassis.rpc import Connections
from services.chassis.settings import load, refuse_start
from services.clients.billing import BillingClient
from services.clients.credentials import CredentialClient

GRACE_SECONDS = 5.0


async def run(settings: GatewaySettings) -> None:
    """Serve until a signal, then drain."""
    certificate = certificate_of(settings)
    folder = settings.home / "gateway"
    folder.mkdir(parents=True, exist_ok=True)
    addresses = {name: settings.address_of(name) for name in SERVICES}
    channels, forwarding = open_channels(addresses, creates=True), open_channels(addresses, creates=False)
    issuer = TokenIssuer(settings.token_secret.get_secret_value())
    connections, bus = Connections(settings, issuer, "gateway"), Bus(settings, streams=False)
    keys, routes, usage = KeyRing(), RouteView(), UsageJournal(folder, BillingClient(connections))
    follower = KvFollower(bus, keys, routes, folder, settings.gateway_id)
    proxy, authenticator = Proxy(routes, usage), Authenticator(keys, issuer, CredentialClient(connections))
    tls = (certificate,) if certificate else ()
    administration = Administration(channels, keys, (bus, usage, *tls), issuer)
    native = NativeApi(authenticator, channels, administration)
    app = build_app(native, OpenAiApi(authenticator, routes, proxy), proxy, administration, settings.cors_origins)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=GRACE_SECONDS)

    for part in (bus, follower, usage, proxy, *tls):
        await part.start()
    door = GrpcProxy(authenticator, forwarding, administration)
    server, _ = await open_grpc_proxy(settings.grpc_listen, door, certificate.grpc if certificate else None)
    await _listen(runner, settings.http_listen, certificate.http if certificate else None)
    await _stopped()
    await wait_for_calls(proxy, settings.drain_seconds)
    await runner.cleanup()
    await server.stop(GRACE_SECONDS)
    await proxy.close()
    await usage.stop()
    await follower.stop()
    for part in tls:
        await part.stop()
    for channel in (*channels.values(), *forwarding.values()):
        await channel.close()
    await connections.close()
    await bus.close()


async def _listen(runner: web.AppRunner, listen: str, tls: ssl.SSLContext | None) -> None:
    host, _, port = listen.rpartition(":")
    await runner.setup()
    try:
        await web.TCPSite(runner, host.strip("[]"), int(port), ssl_context=tls, reuse_port=False).start()
    except OSError as error:
        raise ModelryError(f"Cannot listen on {listen}: {error.strerror}.") from error


async def _stopped() -> None:
    """Wait for SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


def main() -> None:
    """Start; a setting or an address that cannot be used ends the process with a word."""
    settings = load(GatewaySettings, service="gateway")
    telemetry.setup("gateway", settings)
    try:
        uvloop.run(run(settings))
    except ModelryError as error:
        refuse_start(error.message)
    finally:
        telemetry.shutdown()


if __name__ == "__main__":
    main()
