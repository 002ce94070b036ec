"""The gateway's process: wiring only."""

import asyncio
import resource
import signal
import ssl

import uvloop
from aiohttp import web

from gateway.addresses import Places, TrustedProxies
from gateway.administration import Administration
from gateway.admission import Admission
from gateway.app import build_app
from gateway.authentication import Authenticator
from gateway.channels import open_channels
from gateway.connections import Bounds, DoorRunner
from gateway.grpc_bounds import Callers, server_options
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
from gateway.watches import Watches
from modelry.api_methods import SERVICES
from services.chassis import telemetry
from services.chassis.auth import TokenIssuer
from services.chassis.bus import Bus
from services.chassis.errors import ModelryError
from services.chassis.listening import split_address
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
    proxy = Proxy(routes, usage, Admission(settings.wait_seconds))
    authenticator = Authenticator(keys, issuer, CredentialClient(connections))
    tls = (certificate,) if certificate else ()
    administration = Administration(channels, keys, (bus, usage, *tls), issuer)
    watches = Watches(keys, settings.most_watches, settings.most_watches_per_key)
    native = NativeApi(authenticator, channels, administration, watches)
    app = build_app(native, OpenAiApi(authenticator, routes, proxy), proxy, administration, settings.cors_origins)
    bounds, proxies = Bounds(), TrustedProxies(settings.trusted_proxies)
    places = Places(settings.most_connections, settings.most_connections_per_address)
    runner = DoorRunner(app, bounds, places, proxies)
    forwarder = GrpcProxy(authenticator, forwarding, administration, watches, Callers(places, proxies, bounds))

    for part in (bus, follower, usage, proxy, *tls):
        await part.start()
    options = server_options(bounds, settings.most_connections)
    server, _ = await open_grpc_proxy(
        settings.grpc_listen, forwarder, options, certificate.grpc if certificate else None
    )
    await _listen(runner, settings.http_listen, certificate.http if certificate else None)
    await _stopped()
    await wait_for_calls(proxy, settings.drain_seconds)
    await runner.cleanup()
    await server.stop(GRACE_SECONDS)
    await proxy.close()
    for ending in (usage, follower, *tls):
        await ending.stop()
    for channel in (*channels.values(), *forwarding.values()):
        await channel.close()
    await connections.close()
    await bus.close()


async def _listen(runner: web.AppRunner, listen: str, tls: ssl.SSLContext | None) -> None:
    host, port = split_address(listen)
    await runner.setup()
    try:
        # `[::]` is every address, of IPv4 too, as at the gRPC door
        await web.TCPSite(runner, None if host in ("::", "") else host, port, ssl_context=tls, reuse_port=False).start()
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
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))  # a connection is one, and a replica's too
    telemetry.setup("gateway", settings)
    try:
        uvloop.run(run(settings))
    except ModelryError as error:
        refuse_start(error.message)
    finally:
        telemetry.shutdown()


if __name__ == "__main__":
    main()
