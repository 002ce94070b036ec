"""The contract's world of fakes."""

from __future__ import annotations

from decimal import Decimal

from services.chassis.objects import StoreAccess, StoredFiles
from services.clients.dataset import DatasetInfo
from services.clients.fakes import (
    FakeBilling,
    FakeCredentials,
    FakeDatasets,
    FakeRegistry,
    FakeServing,
    FakeTraining,
)
from services.clients.registry import ModelInfo
from services.clients.serving import DeploymentInfo
from services.clients.training import CheckpointInfo
from tests.contract.clients.world import ADAPTER, BUCKET, PROJECT, manifest_of


class FakeWorld:
    """The fakes."""

    def __init__(self) -> None:
        self.registry, self.datasets, self.billing = FakeRegistry(), FakeDatasets(), FakeBilling()
        self.credentials = FakeCredentials(StoreAccess("http://127.0.0.1:1", "a", "b"), BUCKET)
        self.credentials.add_project(PROJECT, "default")
        self.training, self.serving = FakeTraining(), FakeServing()

    async def add_model(self, name: str, base: str = "") -> str:
        files = StoredFiles(BUCKET, f"models/{name}", manifest_of(ADAPTER))
        over = await self.registry.resolve(PROJECT, base) if base else None
        info = ModelInfo(
            version_id=f"mv-{name}",
            state="READY",
            model_name=name,
            number=1,
            parameter_count=5,
            files=files,
            digest="sha256:1",
            base=over,
        )
        return self.registry.add(info, name, f"{name}@1", project=PROJECT).version_id

    async def add_dataset(self, name: str, *, published: bool = True) -> str:
        info = DatasetInfo(
            version_id=f"dsv-{name}",
            dataset_name=name,
            number=1,
            files=StoredFiles(BUCKET, f"datasets/{name}", manifest_of({"data.parquet": b""})),
            file="data.parquet",
            row_count=7,
            token_count=70,
        )
        if not published:
            self.datasets.unpublished.add(info.version_id)
        return self.datasets.add(info, PROJECT).version_id

    async def add_credential(self, name: str, bucket: str = "") -> None:
        self.credentials.add(name, StoreAccess("http://127.0.0.1:1", "a", "b"), bucket, PROJECT)

    async def add_checkpoint(self, checkpoint_id: str) -> None:
        files = StoredFiles("own", f"jobs/{checkpoint_id}/adapter", manifest_of(ADAPTER), "mine")
        self.training.add(
            CheckpointInfo(
                checkpoint_id=checkpoint_id,
                base_model_version_id="mv-base",
                adapter=files,
                job_id=f"ftjob-{checkpoint_id}",
                step=3,
            ),
            PROJECT,
        )

    async def add_deployment(self, name: str) -> str:
        info = DeploymentInfo(deployment_id=f"dep-{name}", model_version_id="mv-base")
        self.serving.add(info, name, PROJECT)
        return info.deployment_id

    async def set_price(self, item: str, amount: str) -> None:
        self.billing.prices[item] = Decimal(amount)

    async def holders(self, service: str, version_id: str) -> list[str]:
        holds = self.registry.holds if service == "registry" else self.datasets.holds
        return holds.holders(version_id)

    async def booked(self, record_or_resource: str) -> list[float]:
        booked = self.billing.reservations.get(record_or_resource)
        settled = [booked.settled] if booked is not None and booked.state == "SETTLED" else []
        return settled + [one.quantity for one in self.billing.records.values() if one.id == record_or_resource]

    async def upload_adapter(self, prefix: str) -> StoredFiles:
        return StoredFiles(BUCKET, prefix, manifest_of(ADAPTER))
