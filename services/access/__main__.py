"""`python -m services.access`: settings, adapters and the list of parts."""

from datetime import timedelta
from functools import partial
from pathlib import Path

from services.access.handlers import handle
from services.access.maintenance import maintain, propagate
from services.access.operations.bootstrap import bootstrap
from services.access.operations.context import ServerFacts, ServiceContext
from services.access.operations.keys import all_records
from services.access.operations.restored import overtake
from services.access.operations.stores import Stores
from services.access.service.access import AccessInternalService, AccessService
from services.access.service.billing import BillingInternalService, BillingService
from services.access.service.events import EventService
from services.access.settings import AccessSettings
from services.chassis.background import BackgroundLoop
from services.chassis.bus import KvKeeper, WorkerGate
from services.chassis.clock import now
from services.chassis.errors import ModelryError
from services.chassis.host import ServiceHost, run
from services.chassis.objects import ForeignRules, StoreAccess
from services.chassis.settings import refuse_start
from services.chassis.vault import Vault
from services.clients.records import KEY_BUCKET

MIGRATIONS = Path(__file__).parent / "migrations"


async def assemble(host: ServiceHost[AccessSettings]) -> None:
    """Build the service and add its parts to the host; the first admin key is made before it answers."""
    settings, bus = host.settings, host.bus
    facts, hold = ServerFacts.of_settings(settings), timedelta(seconds=settings.hold_seconds)
    context = ServiceContext(host.database, stores_of(settings), facts, hold)
    try:
        await bootstrap(settings.home / "admin.key", settings.bootstrap_key.get_secret_value(), context, now())
    except ModelryError as error:
        refuse_start(f"MODELRY_BOOTSTRAP_KEY: {error.message}")
    keeper = KvKeeper(bus, KEY_BUCKET, partial(all_records, context), settings, partial(overtake, context))
    maintenance = BackgroundLoop("maintenance of access", partial(maintain, context, set()), settings.sweep_seconds)
    gate = WorkerGate(bus, settings.token_secret)
    host.on_events(partial(handle, context), "job", "evaluation", "deployment")  # what costs money
    host.add(keeper, gate, maintenance)
    propagated = partial(propagate, context, host.relay, keeper, settings.propagation_seconds)
    host.serve(AccessService(context, propagated))
    host.serve(AccessInternalService(context, propagated))
    host.serve(BillingService(context))
    host.serve(BillingInternalService(context))
    host.serve(EventService(bus))


def stores_of(settings: AccessSettings) -> Stores:
    """Return the installation's store and the vault; a wrong key stops the start with its name."""
    try:
        vault = Vault.of(settings.vault_key.get_secret_value())
        facts = ServerFacts.of_settings(settings)
        rules = lambda: ForeignRules.of_settings(settings, facts.addresses().values())  # noqa: E731
        return Stores(StoreAccess.of_settings(settings), vault, rules)
    except ValueError as error:
        refuse_start(f"access cannot start: {error}.")


if __name__ == "__main__":
    run("access", AccessSettings, MIGRATIONS, assemble)
