"""What all use cases share: the database, the object stores and the facts of the installation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from services.access.operations.server import ServerFacts
from services.access.operations.stores import Stores
from services.access.store import AccessUnit
from services.chassis.data import Database


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
