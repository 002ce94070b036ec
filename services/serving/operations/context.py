"""What every use case works with: the database, the other services, and who is told of a change."""

import asyncio
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from functools import cached_property

from services.chassis.data import Database, Watchers
from services.chassis.objects import ObjectStore, StoreAccess
from services.chassis.transitions import Failure
from services.serving.clients import Clients
from services.serving.domain.entities import Deployment
from services.serving.settings import ServingSettings
from services.serving.store import ServingUnit

PRICE_ITEM = "replica-hour"


@dataclass
class ServiceContext:
    """What every use case works with.

    Attributes:
        cores: cores that the launcher gives out.
        wake: set when there may be something to do.
        troubles: why the files of a deployment cannot be had, by its id; made anew by each process.
    """

    database: Database
    clients: Clients
    settings: ServingSettings
    cores: int
    watchers: Watchers[Deployment] = field(default_factory=Watchers)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    troubles: dict[str, Failure] = field(default_factory=dict)

    def writing(self) -> ServingUnit:
        """Return a unit of work that writes."""
        return ServingUnit(self.database)

    def reading(self) -> ServingUnit:
        """Return a unit of work that reads."""
        return ServingUnit(self.database, write=False)

    def tell(self, deployment: Deployment) -> None:
        """Tell those who watch a deployment, and the reconciler, that it has changed."""
        self.watchers.notify(deployment.id, deployment)
        self.wake.set()

    @cached_property
    def store(self) -> ObjectStore:
        """The installation's store, where the files of all versions lie. Its operations block."""
        return ObjectStore(StoreAccess.of_settings(self.settings))

    def secret_of(self, replica_id: str) -> str:
        """Return the key that a replica asks for. Derived, so that it is stored nowhere here."""
        secret = self.settings.token_secret.get_secret_value().encode()
        return hmac.new(secret, f"replica/{replica_id}".encode(), hashlib.sha256).hexdigest()

    def base_url(self) -> str:
        """Return where OpenAI clients find the gateway."""
        address = self.settings.http_address
        if not address:
            try:
                noted = json.loads((self.settings.home / "state.json").read_text("utf-8"))
                address = str(noted["addresses"]["http"])
            except (OSError, ValueError, KeyError, TypeError):
                return ""
        return f"{address.rstrip('/')}/v1" if "://" in address else f"http://{address}/v1"
