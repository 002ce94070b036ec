"""The contract's world of real services: their gRPC methods, each on its own database, in one server."""

from __future__ import annotations

import base64
import secrets
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import text

import services
from deploy.local.files import choose_port
from deploy.local.testing import RealObjects
from services.access.domain.credentials import Credential
from services.access.operations import billing, credentials
from services.access.operations.bootstrap import bootstrap
from services.access.operations.context import ServerFacts
from services.access.operations.context import ServiceContext as AccessContext
from services.access.operations.stores import Stores
from services.access.service.access import AccessInternalService
from services.access.service.billing import BillingInternalService
from services.chassis.auth import Principal, Role, TokenIssuer
from services.chassis.clock import now
from services.chassis.data import Database, UnitOfWork
from services.chassis.jobs import State
from services.chassis.locations import ObjectLocation
from services.chassis.objects import ForeignRules, ObjectStore, StoreAccess, StoredFiles
from services.chassis.rpc import Connections, RpcServer
from services.chassis.vault import Vault
from services.clients.billing import BillingClient
from services.clients.credentials import CredentialClient
from services.clients.dataset import DatasetClient
from services.clients.registry import RegistryClient
from services.clients.serving import ServingClient
from services.clients.training import TrainingClient
from services.dataset.domain import BadRowPolicy, Dataset, DatasetVersion, Format, Output, Source
from services.dataset.domain import State as DatasetState
from services.dataset.operations.context import ServiceContext as DatasetContext
from services.dataset.service import DatasetInternalServicer
from services.dataset.sources import Sources
from services.dataset.store import DatasetUnit
from services.registry.domain import Files, Kind, Model, ModelVersion, Origin
from services.registry.domain import State as ModelState
from services.registry.operations.context import ServiceContext as RegistryContext
from services.registry.service import RegistryInternalServicer, RegistryServicer
from services.registry.store import RegistryUnit
from services.serving.service import ServingInternalServicer
from services.serving.store import ServingUnit
from services.training.domain import Checkpoint, Job
from services.training.service import TrainingInternalServicer
from services.training.store import TrainingUnit
from tests.contract.clients.world import ADAPTER, BUCKET, PROJECT, manifest_of
from tests.unit.serving.made import deployment

_HERE = Path(services.__file__).parent


@dataclass(frozen=True)
class Here:
    """The server of this process, which all names mean."""

    listen: str

    def address_of(self, service: str) -> str:
        return self.listen


@dataclass(frozen=True)
class OnlyDatabase:
    """All that the internal methods of training and serving need of their context."""

    database: Database

    def reading(self) -> ServingUnit:
        return ServingUnit(self.database, write=False)


class RealWorld:
    """The services."""

    def __init__(self, folder: Path, objects: RealObjects) -> None:
        self._folder, self._running = folder, AsyncExitStack()
        self._access = StoreAccess(objects.url, objects.access_key, objects.secret_key, objects.region)
        self._admin = Principal(PROJECT, Role.ADMIN, "key-1", "user", "key-1")
        self._databases: dict[str, Database] = {}

    async def start(self) -> None:
        issuer = TokenIssuer(secrets.token_hex(32))
        for name in ("access", "registry", "dataset", "training", "serving"):
            url = f"sqlite:///{self._folder}/{name}.db"
            self._databases[name] = await Database.open(url, name, _HERE / name / "migrations")
            self._running.push_async_callback(self._databases[name].close)
        here = Here(f"127.0.0.1:{choose_port()}")
        server, connections = RpcServer(here, issuer), Connections(here, issuer, "training")
        self._running.push_async_callback(connections.close)
        for servicer in await self._servicers(CredentialClient(connections)):
            server.offer(servicer)
        await server.start()
        self._running.push_async_callback(server.stop, 0)
        self.registry, self.datasets = RegistryClient(connections), DatasetClient(connections)
        self.billing, self.credentials = BillingClient(connections), CredentialClient(connections)
        self.training, self.serving = TrainingClient(connections), ServingClient(connections)

    async def stop(self) -> None:
        await self._running.aclose()

    async def _servicers(self, asking: CredentialClient) -> list[Any]:
        vault = Vault.of(base64.b64encode(secrets.token_bytes(32)).decode())
        stores = Stores(self._access, vault, ForeignRules)
        facts = ServerFacts("0", "USD", {}, self._folder / "state.json")
        self._context = AccessContext(self._databases["access"], stores, facts, timedelta(minutes=10))
        await bootstrap(self._folder / "admin.key", "", self._context, now())
        await stores.ensure_bucket(BUCKET)

        async def propagated(_: object) -> bool:
            return True

        registry = RegistryContext(self._databases["registry"], asking, self._access, BUCKET, 600)
        dataset = DatasetContext(self._databases["dataset"], Sources(asking, self._access, BUCKET), 600)
        training: Any = OnlyDatabase(self._databases["training"])
        serving: Any = OnlyDatabase(self._databases["serving"])
        return [
            AccessInternalService(self._context, propagated),
            BillingInternalService(self._context),
            RegistryServicer(registry),
            RegistryInternalServicer(registry),
            DatasetInternalServicer(dataset),
            TrainingInternalServicer(training),
            ServingInternalServicer(serving),
        ]

    async def add_model(self, name: str, base: str = "") -> str:
        moment, version_id = now(), f"mv-{name}"
        async with RegistryUnit(self._databases["registry"]) as uow:
            origin = Origin.TUNED if base else Origin.PRIVATE
            await uow.models.add(Model(f"mdl-{name}", PROJECT, name, "", {}, origin, moment, moment, latest_version=1))
            await uow.versions.add(
                ModelVersion(
                    id=version_id,
                    project=PROJECT,
                    model_id=f"mdl-{name}",
                    model_name=name,
                    number=1,
                    state=ModelState.READY,
                    kind=Kind.ADAPTER if base else Kind.FULL,
                    create_time=moment,
                    base_id=base,
                    parameter_count=5,
                    files=Files(StoredFiles(BUCKET, f"models/{name}", manifest_of(ADAPTER)), "sha256:1", 9),
                )
            )
            await uow.commit()
        return version_id

    async def add_dataset(self, name: str, *, published: bool = True) -> str:
        moment, version_id = now(), f"dsv-{name}"
        output = Output(
            Format.ALPACA,
            7,
            0,
            "sha256:1",
            StoredFiles(BUCKET, f"datasets/{name}", manifest_of({"data.parquet": b""})),
            '{"estimated_token_count": 70}',
            pairs=False,
            identity={},
        )
        version = DatasetVersion(
            id=version_id,
            project=PROJECT,
            dataset_id=f"ds-{name}",
            dataset_name=name,
            number=1,
            state=DatasetState.PUBLISHED if published else DatasetState.READY,
            source=Source(bucket=BUCKET, prefix="rows"),
            format=Format.ALPACA,
            columns={},
            bad_row_policy=BadRowPolicy.REJECT,
            max_bad_rows=0,
            draft=False,
            metadata={},
            create_time=moment,
            output=output,
        )
        async with DatasetUnit(self._databases["dataset"]) as uow:
            await uow.datasets.add(Dataset(f"ds-{name}", PROJECT, name, "", {}, 1, moment, moment))
            await uow.versions.add(version)
            await uow.commit()
        return version_id

    async def add_credential(self, name: str, bucket: str = "") -> None:
        draft = Credential("", "", name, now(), now(), access_key="a", endpoint="http://192.0.2.1:9", bucket=bucket)
        await credentials.create_credential(self._admin, draft, "b", "", "", self._context, now())

    async def add_checkpoint(self, checkpoint_id: str) -> None:
        moment = datetime(2026, 1, 1, tzinfo=UTC)
        job = Job(
            id=f"ftjob-{checkpoint_id}",
            project=PROJECT,
            create_time=moment,
            update_time=moment,
            state=State.SUCCEEDED,
            model_version_id="mv-base",
            output=ObjectLocation(credential="mine", bucket="own", prefix="jobs"),
        )
        checkpoint = Checkpoint(
            id=checkpoint_id,
            project=PROJECT,
            job_id=job.id,
            create_time=moment,
            step=3,
            files=StoredFiles("own", f"jobs/{checkpoint_id}", manifest_of(ADAPTER, "adapter/"), "mine"),
        )
        async with TrainingUnit(self._databases["training"]) as uow:
            await uow.jobs.add(job)
            await uow.checkpoints.add(checkpoint)
            await uow.commit()

    async def add_deployment(self, name: str) -> str:
        made = replace(deployment(), id=f"dep-{name}", name=name, project=PROJECT, model_version_id="mv-base")
        async with ServingUnit(self._databases["serving"]) as uow:
            await uow.deployments.add(made)
            await uow.commit()
        return made.id

    async def set_price(self, item: str, amount: str) -> None:
        await billing.set_price(self._admin, item, Decimal(amount), self._context, now())

    async def holders(self, service: str, version_id: str) -> list[str]:
        return await self._column(
            service, "SELECT holder FROM holds WHERE version_id = :id ORDER BY holder", version_id
        )

    async def booked(self, record_or_resource: str) -> list[float]:
        statement = "SELECT quantity FROM usage_records WHERE :id IN (id, resource_id)"
        return await self._column("access", statement, record_or_resource)

    async def _column(self, service: str, statement: str, value: str) -> list[Any]:
        async with UnitOfWork(self._databases[service], write=False) as uow:
            return [row[0] for row in await uow.connection.execute(text(statement), {"id": value})]

    async def upload_adapter(self, prefix: str) -> StoredFiles:
        store = ObjectStore(self._access)
        store.ensure_bucket(PROJECT)
        for path, data in ADAPTER.items():
            store.put_bytes(PROJECT, f"{prefix}/{path}", data)
        return StoredFiles(PROJECT, prefix, manifest_of(ADAPTER))
