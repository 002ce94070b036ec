"""The other services that every stage with priced jobs asks."""

from dataclasses import dataclass, fields
from typing import ClassVar, Self, get_type_hints

from services.chassis.jobs import Reservations
from services.chassis.rpc import Connections
from services.clients.billing import BillingClient
from services.clients.credentials import CredentialClient
from services.clients.dataset import DatasetClient
from services.clients.registry import RegistryClient


@dataclass(frozen=True)
class JobClients:
    """One client for each. A stage names its item of the price list, and adds the clients that it alone needs."""

    price_item: ClassVar[str]
    registry: RegistryClient
    datasets: DatasetClient
    billing: BillingClient
    credentials: CredentialClient

    @classmethod
    def of(cls, connections: Connections) -> Self:
        """Return the clients on the connections of a process."""
        kinds = get_type_hints(cls)
        return cls(**{one.name: kinds[one.name](connections) for one in fields(cls)})

    @property
    def reservations(self) -> Reservations:
        """What jobs set aside: money, their models and their data sets."""
        return Reservations(self.billing, self.price_item, (self.registry, self.datasets))
