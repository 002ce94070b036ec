"""An evaluation service in this process, on real NATS, S3, SQLite and workers; the other services are fakes."""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from deploy.local.testing import RealNats, RealObjects
from modelry.evaluation.v1 import evaluation_pb2 as pb
from modelry.evaluation.v1 import evaluation_pb2_grpc
from services.chassis.auth import Principal, Role, TokenIssuer
from services.chassis.host import ServiceHost
from services.chassis.launch import Capacity, LocalLauncher
from services.chassis.objects import ObjectStore, StoreAccess, StoredFiles, upload_folder
from services.chassis.rpc import channel
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
from services.evaluation.__main__ import MIGRATIONS, add_parts
from services.evaluation.clients import Clients
from services.evaluation.settings import EvaluationSettings

PROJECT, OTHER = "proj-1", "proj-2"
SUBJECTS = ("astronomy", "marketing", "sociology", "philosophy")
QUESTIONS = 9


def write_benchmark(folder: Path) -> None:
    """A small set in the MMLU layout, one subject of each category."""
    for split, count in (("dev", 2), ("test", QUESTIONS)):
        for subject in SUBJECTS:
            path = folder / split / f"{subject}_{split}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = [f'"Which is number {n} of {subject}?",one,two,three,four,{"ABCD"[n % 4]}' for n in range(count)]
            path.write_text("\n".join(rows) + "\n")


def write_pairs(folder: Path) -> None:
    """A small set of evaluation pairs in the canonical form; the third has no reference after stop words."""
    folder.mkdir(parents=True, exist_ok=True)
    questions = ["What is the opening time of the help desk?", "How do I reset my password?", "What is <|im_end|>?"]
    table = pa.table(
        {
            "line": [1, 2, 3],
            "messages": [json.dumps([{"role": "user", "content": question}]) for question in questions],
            "references": [json.dumps(["The help desk opens at nine."]), json.dumps(["Open the settings."]), '["the"]'],
            "category": ["hours", "account", None],
        }
    )
    parquet.write_table(table, folder / "data.parquet")


class Fakes(Clients):
    """The other services in memory."""

    registry: FakeRegistry
    datasets: FakeDatasets
    billing: FakeBilling
    credentials: FakeCredentials
    training: FakeTraining
    serving: FakeServing

    @classmethod
    def on(cls, access: StoreAccess, bucket: str) -> Fakes:
        stores = FakeCredentials(access, bucket)
        stores.add("any", access)
        return cls(FakeRegistry(), FakeDatasets(), FakeBilling(), stores, FakeTraining(), FakeServing())

    @property
    def held(self) -> list[str]:
        """Who holds anything."""
        return sorted({*self.registry.holds.holders(), *self.datasets.holds.holders()})


class World:
    """The service and what it stands on."""

    def __init__(self, home: Path, nats: RealNats, objects: RealObjects, cpus: int = 1) -> None:
        """`cpus`: the cores of the machine; a worker takes as many as it gets."""
        access = StoreAccess(objects.url, objects.access_key, objects.secret_key, objects.region)
        self.bucket = f"eval-{secrets.token_hex(4)}"
        self.store = ObjectStore(access)
        self.store.ensure_bucket(self.bucket)
        self.others = Fakes.on(access, self.bucket)
        self.settings = EvaluationSettings(
            service="evaluation",
            home=home,
            nats_url=nats.url,
            nats_password=nats.passwords["services"],
            token_secret=nats.token_secret,
            objects_endpoint=objects.url,
            objects_access_key=objects.access_key,
            objects_secret_key=objects.secret_key,
            objects_bucket=self.bucket,
            reconcile_seconds=0.2,
            exit_seconds=15,
            worker_memory_mb=2048,
        )
        self.issuer = TokenIssuer(self.settings.token_secret.get_secret_value())
        self.launcher = LocalLauncher(home, Capacity(cores=tuple(range(cpus)), slots=cpus, memory_mb=4096))
        write_benchmark(home / "mmlu")
        upload_folder(self.store, self.bucket, "benchmarks/mmlu", home / "mmlu")
        upload_folder(self.store, self.bucket, "own/set", home / "mmlu")
        write_pairs(home / "pairs")
        pairs = upload_folder(self.store, self.bucket, "pairs", home / "pairs")
        self.others.datasets.add(
            DatasetInfo(
                version_id="dsv-desk",
                dataset_name="desk",
                number=1,
                files=StoredFiles(self.bucket, "pairs", json.dumps(pairs.to_json())),
                file="data.parquet",
                row_count=3,
                evaluation_pairs=True,
            ),
            PROJECT,
        )

    def add_model(self, name: str, base: Path, adapter: Path | None = None) -> None:
        """Makes a model known."""

        full = ModelInfo(version_id=f"mv-{name}", state="READY", parameter_count=300_000, files=self.upload(base))
        if adapter is not None:
            full = replace(full, version_id=f"mv-{name}-base")
            full = ModelInfo(version_id=f"mv-{name}", state="READY", files=self.upload(adapter), base=full)
        self.others.registry.add(full, name, project=PROJECT)

    def upload(self, path: Path, name: str = "") -> StoredFiles:
        """Stores a folder of a model."""
        prefix = f"models/{name or path.name}"
        manifest = upload_folder(self.store, self.bucket, prefix, path)
        return StoredFiles(self.bucket, prefix, json.dumps(manifest.to_json()))

    async def start(self) -> None:
        """Opens everything and begins."""
        self.host = ServiceHost(self.settings, MIGRATIONS, self._assemble)
        await self.host.start()
        self.database, self.bus = self.host.database, self.host.bus
        self.channel = channel(f"127.0.0.1:{self.host.port}", translate_errors=True)
        self.stub: Any = evaluation_pb2_grpc.EvaluationServiceStub(self.channel)

    async def stop(self) -> None:
        """Ends everything, workers too."""
        await self.channel.close()
        await self.host.stop()
        for program in await self.launcher.list():
            await self.launcher.kill(program.id)

    async def _assemble(self, host: ServiceHost[EvaluationSettings]) -> None:
        context = add_parts(host, self.others, self.launcher)
        self.engine = context.engine

    def metadata(self, project: str = PROJECT) -> list[tuple[str, str]]:
        """Who calls."""
        principal = Principal(project=project, role=Role.DEVELOPER, key_id="key-1", kind="user", subject="key-1")
        return [("authorization", f"Bearer {self.issuer.issue(principal)}")]

    async def call(self, method: str, request: Any, project: str = PROJECT) -> Any:
        """A call as a user makes it."""
        return await getattr(self.stub, method)(request, metadata=self.metadata(project))

    async def create(self, evaluation: pb.Evaluation, request_id: str = "") -> pb.Evaluation:
        """Makes an evaluation."""
        request = pb.CreateEvaluationRequest(evaluation=evaluation, request_id=request_id)
        return await self.call("CreateEvaluation", request)

    async def until_end(self, evaluation: str, seconds: float = 240) -> list[pb.Evaluation]:
        """What a watcher sees, up to the end."""
        request = pb.WatchEvaluationRequest(evaluation=evaluation)
        async with asyncio.timeout(seconds):
            return [seen async for seen in self.stub.WatchEvaluation(request, metadata=self.metadata())]
