"""`python -m services.dataset`: settings, adapters and the list of parts."""

from pathlib import Path

from services.chassis.host import ServiceHost, run
from services.chassis.launch import LocalLauncher
from services.chassis.objects import StoreAccess
from services.chassis.rpc import Connections
from services.clients.credentials import CredentialClient
from services.dataset.handlers import USERS, HoldHandlers
from services.dataset.importer import Importer
from services.dataset.operations.context import ServiceContext
from services.dataset.service import DatasetInternalServicer, DatasetServicer
from services.dataset.settings import DatasetSettings
from services.dataset.sources import Sources

MIGRATIONS = Path(__file__).parent / "migrations"


async def assemble(host: ServiceHost[DatasetSettings]) -> None:
    """Build the service and add its parts to the host."""
    settings = host.settings
    connections = Connections(settings, host.issuer, "dataset")
    host.close_at_end(connections)
    sources = Sources(CredentialClient(connections), StoreAccess.of_settings(settings), settings.objects_bucket)
    context = ServiceContext(host.database, sources, settings.hold_seconds)
    importer = Importer(
        context,
        LocalLauncher.of_settings(settings.home, settings),
        settings.home,
        parallel=settings.parallel_imports,
        period_seconds=settings.reconcile_seconds,
        lease_seconds=settings.lease_seconds,
    )
    host.on_events(HoldHandlers(context).handle, *USERS)
    host.add(importer, context.garbage)
    host.serve(DatasetServicer(context, settings.home / "work" / "uploads"))
    host.serve(DatasetInternalServicer(context))


if __name__ == "__main__":
    run("dataset", DatasetSettings, MIGRATIONS, assemble)
