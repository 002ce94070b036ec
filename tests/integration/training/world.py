"""The training service whole, on real NATS, S3, SQLite, launcher and gRPC; the other services are fakes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from deploy.local.testing import RealNats, RealObjects
from modelry.training.v1 import internal_pb2_grpc, training_pb2_grpc
from modelry.training.v1 import training_pb2 as pb
from services.chassis.auth import Principal, Role, TokenIssuer
from services.chassis.host import ServiceHost
from services.chassis.launch import Capacity, LocalLauncher
from services.chassis.objects import Manifest, ObjectStore, StoreAccess, StoredFiles
from services.chassis.rpc import channel
from services.clients.dataset import DatasetInfo
from services.clients.fakes import FakeBilling, FakeCredentials, FakeDatasets, FakeRegistry
from services.clients.registry import ModelInfo
from services.training.__main__ import MIGRATIONS, add_parts
from services.training.clients import Clients
from services.training.settings import TrainingSettings

PROJECT, OTHER = "proj-1", "proj-2"
ROOT = Path(__file__).parents[3]


class Fakes(Clients):
    """The other services in memory, knowing a model, an adapter and two data sets."""

    registry: FakeRegistry
    datasets: FakeDatasets
    billing: FakeBilling
    credentials: FakeCredentials

    @classmethod
    def on(cls, access: StoreAccess, bucket: str) -> Fakes:
        made = cls(FakeRegistry(), FakeDatasets(), FakeBilling(), FakeCredentials(access, bucket))
        files = StoredFiles("b", "p", '{"files": []}')
        base = ModelInfo(version_id="mv-1", state="READY", parameter_count=135_000_000, context_length=512, files=files)
        made.registry.add(base, "tiny")
        made.registry.add(ModelInfo(version_id="mv-2", state="READY", files=files, base=base), "adapter")
        for name, number, pairs in (("support", 1, False), ("pairs", 2, True)):
            made.datasets.add(
                DatasetInfo(
                    version_id=f"dsv-{number}",
                    dataset_name=name,
                    number=1,
                    files=files,
                    file="data.parquet",
                    row_count=100,
                    token_count=5000,
                    evaluation_pairs=pairs,
                )
            )
        return made

    @property
    def held(self) -> list[str]:
        """Who holds anything."""
        return sorted({*self.registry.holds.holders(), *self.datasets.holds.holders()})


class World:
    """The service and its client."""

    def __init__(
        self,
        home: Path,
        nats: RealNats,
        objects: RealObjects,
        program: Callable[[int], Sequence[str]] = lambda _: [sys.executable, "-m", "tests.toy_trainer"],
        **changes: Any,
    ) -> None:
        self.program = program
        values: dict[str, Any] = {
            "lease_seconds": 2,
            "start_seconds": 8,
            "heartbeat_seconds": 0.3,
            "signal_seconds": 0.5,
            "exit_seconds": 2,
            "job_cpus": 1,  # two jobs run at once on the launcher's two cores
        }
        self.settings = TrainingSettings(
            service="training",
            home=home,
            reconcile_seconds=0.1,
            retry_min_seconds=0.1,
            retry_max_seconds=1,
            flush_seconds=0.3,
            nats_url=nats.url,
            nats_password=nats.passwords["services"],
            token_secret=nats.token_secret,
            objects_endpoint=objects.url,
            objects_access_key=objects.access_key,
            objects_secret_key=objects.secret_key,
            **{**values, **changes},
        )
        self.access = StoreAccess(objects.url, objects.access_key, objects.secret_key)
        self.objects, self.bucket = ObjectStore(self.access), objects.bucket
        self.others = Fakes.on(self.access, objects.bucket)
        self.issuer = TokenIssuer(self.settings.token_secret.get_secret_value())

    def metadata(self, project: str = PROJECT, kind: str = "user", role: Role = Role.OWNER) -> Any:
        principal = Principal(project, role, "key-1", kind, "tester")  # type: ignore[arg-type]
        return (("authorization", f"Bearer {self.issuer.issue(principal)}"),)

    async def start(self) -> None:
        self.launcher = LocalLauncher(self.settings.home, Capacity(cores=(0, 1), slots=2, memory_mb=8192))
        self.host = ServiceHost(self.settings, MIGRATIONS, self._assemble)
        await self.host.start()
        self.database, self.bus = self.host.database, self.host.bus
        self.channel = channel(f"127.0.0.1:{self.host.port}", translate_errors=True)
        self.training: Any = training_pb2_grpc.TrainingServiceStub(self.channel)
        self.internal: Any = internal_pb2_grpc.TrainingInternalServiceStub(self.channel)

    async def _assemble(self, host: ServiceHost[TrainingSettings]) -> None:
        self.context = add_parts(host, self.others, self.launcher, self.program)
        self.engine = self.context.engine

    async def stop(self) -> None:
        await self.channel.close()
        await self.host.stop()

    async def create(self, request_id: str = "", steps: int = 6, **fields: Any) -> pb.Job:
        return await self.training.CreateJob(a_request(request_id, steps, **fields), metadata=self.metadata())

    async def get(self, job_id: str) -> pb.Job:
        return await self.training.GetJob(pb.GetJobRequest(job=job_id), metadata=self.metadata())

    async def until(self, job_id: str, true: Callable[[pb.Job], bool], seconds: float = 30) -> pb.Job:
        async with asyncio.timeout(seconds):
            while not true(job := await self.get(job_id)):
                await asyncio.sleep(0.02)
        return job

    async def ended(self, job_id: str) -> pb.Job:
        """The job once it has ended and is settled."""
        async with asyncio.timeout(30):
            while not (await self.engine.job(PROJECT, job_id)).settled:
                await asyncio.sleep(0.02)
        return await self.get(job_id)

    def stored(self, prefix: str) -> list[str]:
        return sorted(info.key for info in self.objects.list(self.bucket, prefix))


def a_request(request_id: str = "", steps: int = 6, **fields: Any) -> pb.CreateJobRequest:
    """A create of a job of so many steps (the toy trainer takes epochs for steps)."""
    hyperparameters = pb.Hyperparameters(epochs=steps, checkpoint_interval=fields.pop("checkpoint_interval", 2))
    hyperparameters.checkpoints_kept = fields.pop("checkpoints_kept", 2)
    values = {"model": "tiny", "datasets": [pb.JobDataset(ref="support")], "hyperparameters": hyperparameters}
    return pb.CreateJobRequest(job=pb.Job(**{**values, **fields}), request_id=request_id)


@asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    """A started world; at the end nothing of it runs."""
    await world.start()
    try:
        yield world
    finally:
        await world.stop()
        for probe in await world.launcher.list():
            await world.launcher.kill(probe.id)


__all__ = ["OTHER", "PROJECT", "Fakes", "Manifest", "World", "a_request", "running"]
