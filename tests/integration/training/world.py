"""The training service whole, on real NATS, S3, SQLite, launcher and gRPC; its neighbours are a fake that remembers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from deploy.local.testing import RealNats, RealObjects
from modelry.common.v1 import common_pb2
from modelry.registry.v1 import registry_pb2
from modelry.training.v1 import internal_pb2_grpc, training_pb2_grpc
from modelry.training.v1 import training_pb2 as pb
from services.chassis.auth import Principal, Role, TokenIssuer
from services.chassis.errors import NotFound, Unavailable
from services.chassis.host import ServiceHost
from services.chassis.launch import Capacity, LocalLauncher
from services.chassis.objects import Manifest, ObjectStore, StoreAccess
from services.chassis.proto_values import money_of
from services.chassis.rpc import channel
from services.training.__main__ import MIGRATIONS, add_parts
from services.training.neighbours import DatasetInfo, ModelInfo, Publication, StoreInfo
from services.training.settings import TrainingSettings

PROJECT, OTHER = "proj-1", "proj-2"
ROOT = Path(__file__).parents[3]


class FakeNeighbours:
    """Registry, data sets, access and billing, in memory."""

    def __init__(self, access: StoreAccess, bucket: str) -> None:
        self.access, self.bucket = access, bucket
        self.model_states = {"mv-1": "READY"}
        self.holds: dict[str, set[str]] = {}
        self.reserved: dict[str, float] = {}
        self.confirmed: set[str] = set()
        self.settled: dict[str, float] = {}
        self.released: set[str] = set()
        self.published: list[Publication] = []
        self.price = Decimal(0)
        self.away: set[str] = set()
        """Questions that are not answered now."""

    def _asked(self, question: str) -> None:
        if question in self.away:
            raise Unavailable(f"{question} is away.")

    async def model(self, project: str, reference: str, holder: str = "") -> ModelInfo:
        self._asked("model")
        if reference not in ("tiny", "mv-1", "adapter"):
            raise NotFound.of("model", reference)
        if holder:
            self.holds.setdefault(holder, set()).add("mv-1")
        manifest = '{"files": []}'
        return ModelInfo(
            "mv-1",
            self.model_states["mv-1"],
            adapter=reference == "adapter",
            parameter_count=135_000_000,
            context_length=512,
            bucket="b",
            prefix="p",
            manifest=manifest,
            failure="It is broken.",
        )

    async def dataset(self, project: str, reference: str, holder: str = "") -> DatasetInfo:
        self._asked("dataset")
        if reference not in ("support", "dsv-1", "pairs"):
            raise NotFound.of("dataset", reference)
        if holder:
            self.holds.setdefault(holder, set()).add("dsv-1")
        pairs = reference == "pairs"
        return DatasetInfo("dsv-1", "support@1", "b", "d", '{"files": []}', "data.parquet", 100, 5000, pairs)

    async def store(self, project: str, credential: str, bucket: str) -> StoreInfo:
        if credential not in ("builtin", ""):
            raise NotFound.of("credential", credential)
        return StoreInfo(self.access, bucket or self.bucket)

    async def quote(
        self, project: str, minutes: tuple[float, float], spec_digest: str, description: str, notes: Sequence[str]
    ) -> common_pb2.Quote:
        return common_pb2.Quote(id="quote-1", notes=list(notes), high=money_of(Decimal(str(minutes[1]))))

    async def reserve(self, project: str, job_id: str, minutes: float, quote_id: str, spec_digest: str) -> Decimal:
        self._asked("reserve")
        self.reserved[job_id] = minutes
        return self.price

    async def confirm(self, project: str, job_id: str) -> None:
        self._asked("confirm")
        self.confirmed.add(job_id)

    async def settle(self, project: str, job_id: str, minutes: float) -> None:
        self._asked("settle")
        self.settled[job_id] = minutes

    async def let_go(self, project: str, job_id: str) -> None:
        self.holds.pop(job_id, None)

    async def release(self, project: str, job_id: str) -> None:
        self.released.add(job_id)
        self.holds.pop(job_id, None)

    async def publish(self, project: str, publication: Publication) -> registry_pb2.ModelVersion:
        self._asked("publish")
        same = [one for one in self.published if one == publication]
        if not same:
            self.published.append(publication)
        number = self.published.index(publication) + 1
        return registry_pb2.ModelVersion(id=f"mv-tuned-{number}", model_name=publication.model_name, number=number)


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
        self.neighbours = FakeNeighbours(self.access, objects.bucket)
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
        self.desk = add_parts(host, self.neighbours, self.launcher, self.program)
        self.engine = self.desk.engine

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


__all__ = ["OTHER", "PROJECT", "FakeNeighbours", "Manifest", "World", "a_request", "running"]
