"""`python -m services.serving`: settings, adapters and the list of parts."""

from functools import partial
from pathlib import Path

from services.chassis.bus import KvKeeper
from services.chassis.host import ServiceHost, run
from services.chassis.launch import LocalLauncher
from services.chassis.rpc import Connections
from services.clients.records import ROUTE_BUCKET
from services.serving.clients import Clients
from services.serving.control.gateways import Gateways
from services.serving.control.reconciler import Reconciler
from services.serving.control.weights import Weights
from services.serving.handlers import VersionHandlers
from services.serving.operations.context import ServiceContext
from services.serving.operations.routes import all_routes, overtake_routes
from services.serving.service import ServingInternalServicer, ServingServicer
from services.serving.settings import ServingSettings

MIGRATIONS = Path(__file__).parent / "migrations"


async def assemble(host: ServiceHost[ServingSettings]) -> None:
    """Build the service on the real ones beside it. Its replicas outlive it."""
    settings = host.settings
    connections = Connections(settings, host.issuer, "serving")
    host.close_at_end(connections)
    launcher = LocalLauncher.of_settings(settings.home, settings)
    context = ServiceContext(host.database, Clients.of(connections), settings, len(launcher.capacity.cores))
    gateways = Gateways(settings.gateway_seconds)
    await gateways.listen(host.bus)
    keeper = KvKeeper(
        host.bus,
        ROUTE_BUCKET,
        lambda: all_routes(context.reading(), context.secret_of),
        settings,
        partial(overtake_routes, context),
    )
    reconciler = Reconciler(context, launcher, Weights(context, launcher), gateways)
    host.on_events(VersionHandlers(context).handle, "modelVersion")
    host.add(keeper, reconciler)
    host.serve(ServingServicer(context, launcher))
    host.serve(ServingInternalServicer(context))


if __name__ == "__main__":
    run("serving", ServingSettings, MIGRATIONS, assemble)
