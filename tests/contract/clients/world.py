"""What the contract of the clients is tried on: a client for each service, and words to prepare what it asks for."""

from __future__ import annotations

import hashlib
import json
from typing import Protocol

from services.access.domain.projects import DEFAULT_ID
from services.chassis.objects import Manifest, ManifestFile, StoredFiles
from services.clients.billing import BillingClient
from services.clients.credentials import CredentialClient
from services.clients.dataset import DatasetClient
from services.clients.registry import RegistryClient
from services.clients.serving import ServingClient
from services.clients.training import TrainingClient

PROJECT, OTHER = DEFAULT_ID, "proj-other"
BUCKET = "modelry"
ADAPTER = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"weights"}


class World(Protocol):
    """A client for each service, and what a test prepares and looks at."""

    registry: RegistryClient
    datasets: DatasetClient
    billing: BillingClient
    credentials: CredentialClient
    training: TrainingClient
    serving: ServingClient

    async def add_model(self, name: str, base: str = "") -> str:
        """A READY version; of a base it is an adapter. Returns its id."""
        ...

    async def add_dataset(self, name: str, *, published: bool = True) -> str:
        """A version of 7 rows. Returns its id."""
        ...

    async def add_credential(self, name: str, bucket: str = "") -> None:
        """A credential."""
        ...

    async def add_checkpoint(self, checkpoint_id: str) -> None:
        """A checkpoint of a job on the base `mv-base`, with an adapter."""
        ...

    async def add_deployment(self, name: str) -> str:
        """A deployment of the version `mv-base`. Returns its id."""
        ...

    async def set_price(self, item: str, amount: str) -> None:
        """The price of an item."""
        ...

    async def holders(self, service: str, version_id: str) -> list[str]:
        """Who holds a version."""
        ...

    async def booked(self, record_or_resource: str) -> list[float]:
        """Quantities of usage booked under the id of a record, or of a resource."""
        ...

    async def upload_adapter(self, prefix: str) -> StoredFiles:
        """An adapter on the installation's store, as training leaves one."""
        ...


def manifest_of(files: dict[str, bytes], prefix: str = "") -> str:
    """A manifest as JSON."""
    listed = tuple(
        ManifestFile(f"{prefix}{path}", len(data), hashlib.sha256(data).hexdigest()) for path, data in files.items()
    )
    return json.dumps(Manifest(listed).to_json())
