"""`python -m services.access`: settings, adapters and the list of parts."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path

from services.access.handlers import consumers
from services.access.maintenance import Propagation, maintain
from services.access.operations.bootstrap import bootstrap
from services.access.operations.credentials import Stores
from services.access.operations.keys import BUCKET, all_records
from services.access.operations.server import ServerFacts
from services.access.service.access import AccessService
from services.access.service.billing import BillingInternalService, BillingService
from services.access.service.context import Parts
from services.access.service.events import EventService
from services.access.service.internal import AccessInternalService
from services.access.settings import AccessSettings
from services.access.store import AccessUnit
from services.chassis.background import BackgroundLoop
from services.chassis.bus import KvKeeper, WorkerGate
from services.chassis.clock import now
from services.chassis.errors import ModelryError
from services.chassis.host import ServiceHost, run
from services.chassis.objects import StoreAccess
from services.chassis.settings import refuse_start
from services.chassis.vault import Vault

MIGRATIONS = Path(__file__).parent / "migrations"


async def assemble(host: ServiceHost[AccessSettings]) -> None:
    """Build the service; the first admin key is made before it answers."""
    settings, bus = host.settings, host.bus
    read, write = partial(AccessUnit, host.database, write=False), partial(AccessUnit, host.database)
    stores, hold = stores_of(settings), timedelta(seconds=settings.hold_seconds)
    try:
        await bootstrap(settings.home / "admin.key", settings.bootstrap_key.get_secret_value(), write(), now())
    except ModelryError as error:
        refuse_start(f"MODELRY_BOOTSTRAP_KEY: {error.message}")
    propagation = Propagation(read, host.relay, settings.propagation_seconds)
    parts = Parts(read, write, stores, propagation.wait, ServerFacts.of_settings(settings), hold)
    keeper = KvKeeper(bus, BUCKET, lambda: all_records(read()), settings)
    work = partial(maintain, read, write, stores, hold)
    maintenance = BackgroundLoop("maintenance of access", work, settings.sweep_seconds)
    gate = WorkerGate(bus, settings.token_secret)
    host.add(keeper, gate, *consumers(bus, host.database, write, settings), maintenance)
    for servicer in (AccessService, AccessInternalService, BillingService, BillingInternalService):
        host.serve(servicer(parts))
    host.serve(EventService(bus))


def stores_of(settings: AccessSettings) -> Stores:
    """The installation's store and the vault; a wrong key stops the start with its name."""
    try:
        return Stores(StoreAccess.of_settings(settings), Vault.of(settings.vault_key.get_secret_value()))
    except ValueError as error:
        refuse_start(f"access cannot start: {error}.")


def main() -> None:
    """The process."""
    run("access", AccessSettings, MIGRATIONS, assemble)


if __name__ == "__main__":
    main()
