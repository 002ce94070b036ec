"""The other services that serving asks."""

from __future__ import annotations

from dataclasses import dataclass

from services.chassis.rpc import Connections
from services.clients.billing import BillingClient
from services.clients.credentials import CredentialClient
from services.clients.registry import RegistryClient


@dataclass(frozen=True)
class Clients:
    """One client for each."""

    registry: RegistryClient
    billing: BillingClient
    credentials: CredentialClient

    @classmethod
    def of(cls, connections: Connections) -> Clients:
        """Return the clients on the connections of a process."""
        return cls(RegistryClient(connections), BillingClient(connections), CredentialClient(connections))
