"""The other services that evaluation asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_type_hints

from services.chassis.jobs import Reservations
from services.chassis.rpc import Connections
from services.clients.billing import BillingClient
from services.clients.credentials import CredentialClient
from services.clients.dataset import DatasetClient
from services.clients.registry import RegistryClient
from services.clients.serving import ServingClient
from services.clients.training import TrainingClient

PRICE_ITEM = "evaluation-minute"


@dataclass(frozen=True)
class Clients:
    """One client for each."""

    registry: RegistryClient
    datasets: DatasetClient
    billing: BillingClient
    credentials: CredentialClient
    training: TrainingClient
    serving: ServingClient

    @classmethod
    def of(cls, connections: Connections) -> Clients:
        """Return the clients on the connections of a process."""
        return cls(**{name: client(connections) for name, client in get_type_hints(cls).items()})

    @property
    def reservations(self) -> Reservations:
        """What evaluations set aside: money, their models and their data sets."""
        return Reservations(self.billing, PRICE_ITEM, (self.registry, self.datasets))
