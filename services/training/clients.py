"""The other services that training asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_type_hints

from services.chassis.jobs import Reservations
from services.chassis.rpc import Connections
from services.clients.billing import BillingClient
from services.clients.credentials import CredentialClient
from services.clients.dataset import DatasetClient
from services.clients.registry import RegistryClient

PRICE_ITEM = "training-minute"


@dataclass(frozen=True)
class Clients:
    """One client for each."""

    registry: RegistryClient
    datasets: DatasetClient
    billing: BillingClient
    credentials: CredentialClient

    @classmethod
    def of(cls, connections: Connections) -> Clients:
        """Return the clients on the connections of a process."""
        return cls(**{name: client(connections) for name, client in get_type_hints(cls).items()})

    @property
    def reservations(self) -> Reservations:
        """What jobs set aside: money, their model and their data sets."""
        return Reservations(self.billing, PRICE_ITEM, (self.registry, self.datasets))
