"""`python -m services.registry`: settings, adapters and the list of parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from services.chassis.clock import now
from services.chassis.host import ServiceHost, run
from services.chassis.launch import LocalLauncher
from services.chassis.objects import StoreAccess
from services.chassis.rpc import Connections
from services.clients.credentials import CredentialClient
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


async def assemble(host: ServiceHost[RegistrySettings]) -> None:
    """Build the service on the real ones beside it."""
    settings = host.settings
    connections = Connections(settings, host.issuer, "registry")
    host.close_at_end(connections)
    credentials, store = CredentialClient(connections), StoreAccess.of_settings(settings)
    desk = Desk(host.database, credentials, store, settings.objects_bucket, settings.hold_seconds)
    await install_presets(desk, catalogue := read_catalogue(), now())
    preparer = Preparer(desk, LocalLauncher.of_settings(settings.home, settings), settings, catalogue)
    host.add(*UserHandlers(desk).consumers(host.bus, settings), preparer, desk.garbage)
    host.serve(RegistryServicer(desk))
    host.serve(RegistryInternalServicer(desk))


def main() -> None:
    """The process."""
    run("registry", RegistrySettings, HERE / "migrations", assemble)


if __name__ == "__main__":
    main()
