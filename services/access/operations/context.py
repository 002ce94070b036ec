"""What all use cases share: the database, the object stores and the facts of the installation."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from services.access.operations.stores import Stores
from services.access.settings import AccessSettings
from services.access.store import AccessUnit
from services.chassis.data import Database


@dataclass(frozen=True)
class ServerFacts:
    """Facts that `serverInfo` shows.

    Addresses that are not set are those that the supervisor of an embedded installation notes in its state file.
    """

    version: str
    currency: str
    configured: Mapping[str, str]
    state_file: Path

    @classmethod
    def of_settings(cls, settings: AccessSettings) -> ServerFacts:
        """Return the facts of an installation."""
        configured = {"http": settings.http_address, "grpc": settings.grpc_address, "nats": settings.nats_address}
        try:
            version = importlib.metadata.version("modelry")
        except importlib.metadata.PackageNotFoundError:
            version = "0"
        return cls(version, settings.currency, configured, settings.home / "state.json")

    def addresses(self) -> dict[str, str]:
        """Return the addresses by door: `http`, `grpc`, `nats`."""
        try:
            noted = json.loads(self.state_file.read_text("utf-8")).get("addresses", {})
        except (OSError, ValueError):
            noted = {}
        return {**noted, **{door: address for door, address in self.configured.items() if address}}


@dataclass(frozen=True)
class ServiceContext:
    """Handed to every use case.

    Attributes:
        stores: object stores and the seal on their secrets.
        facts: what the installation is.
        hold: how long money is set aside without a confirmation.
    """

    database: Database
    stores: Stores
    facts: ServerFacts
    hold: timedelta

    def writing(self) -> AccessUnit:
        """Return a unit of work that writes."""
        return AccessUnit(self.database)

    def reading(self) -> AccessUnit:
        """Return a unit of work that reads."""
        return AccessUnit(self.database, write=False)
