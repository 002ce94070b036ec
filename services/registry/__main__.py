"""`python -m services.registry`: settings, adapters and the list of parts."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from services.chassis.clock import now
from services.chassis.host import ServiceHost, run
from services.chassis.launch import LocalLauncher
from services.chassis.objects import StoreAccess
from services.chassis.rpc import Connections
from services.clients.credentials import CredentialClient
from services.registry.handlers import USERS, handle
from services.registry.operations.context import ServiceContext
from services.registry.operations.models import install_presets
from services.registry.preparer import Preparer
from services.registry.service import RegistryInternalServicer, RegistryServicer
from services.registry.settings import RegistrySettings

HERE = Path(__file__).parent
MIGRATIONS = HERE / "migrations"


def read_catalogue() -> list[dict[str, Any]]:
    """Return the presets that come with this version of Modelry."""
    presets: list[dict[str, Any]] = yaml.safe_load((HERE / "presets" / "catalogue.yaml").read_text("utf-8"))
    return presets


async def assemble(host: ServiceHost[RegistrySettings]) -> None:
    """Build the service and add its parts to the host."""
    settings = host.settings
    connections = Connections(settings, host.issuer, "registry")
    host.close_at_end(connections)
    launcher = LocalLauncher.of_settings(settings.home, settings)
    await add_parts(host, CredentialClient(connections), launcher, read_catalogue())


async def add_parts(
    host: ServiceHost[RegistrySettings],
    credentials: CredentialClient,
    launcher: LocalLauncher,
    catalogue: Sequence[Mapping[str, Any]],
) -> ServiceContext:
    """Build the service on a given client of access, a launcher and a catalogue of presets."""
    settings, store = host.settings, StoreAccess.of_settings(host.settings)
    context = ServiceContext(host.database, credentials, store, settings.objects_bucket, settings.hold_seconds)
    await install_presets(catalogue, context, now())
    preparer = Preparer(context, launcher, settings, catalogue)
    host.on_events(partial(handle, context), *USERS)
    host.add(preparer, context.garbage)
    host.serve(RegistryServicer(context))
    host.serve(RegistryInternalServicer(context))
    return context


if __name__ == "__main__":
    run("registry", RegistrySettings, MIGRATIONS, assemble)
