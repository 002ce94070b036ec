"""An evaluation service in this process, on real NATS, S3, SQLite and workers; its neighbours are a fake."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from deploy.local.testing import RealNats, RealObjects
from modelry.common.v1 import common_pb2
from modelry.evaluation.v1 import evaluation_pb2 as pb
from modelry.evaluation.v1 import evaluation_pb2_grpc
from services.chassis.auth import Principal, Role, TokenIssuer
from services.chassis.bus import Bus, OutboxRelay, WorkerGate
from services.chassis.data import Database
from services.chassis.errors import NotFound
from services.chassis.jobs import JobEngine
from services.chassis.launch import Capacity, LocalLauncher
from services.chassis.objects import ObjectStore, StoreAccess, upload_folder
from services.chassis.rpc import RpcServer, channel
from services.evaluation.__main__ import MIGRATIONS
from services.evaluation.neighbours import CheckpointInfo, DatasetInfo, FilesInfo, ModelInfo, StoreInfo
from services.evaluation.operations.context import Benchmarks, Desk
from services.evaluation.service import EvaluationServicer
from services.evaluation.settings import EvaluationSettings
from services.evaluation.stage import EvaluationStage
from services.evaluation.store import JOB_TABLES

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


@dataclass
class FakeNeighbours:
    """Registry, dataset, training, serving, access and billing of one project."""

    access: StoreAccess
    bucket: str
    models: dict[str, ModelInfo] = field(default_factory=dict)
    checkpoints: dict[str, CheckpointInfo] = field(default_factory=dict)
    datasets: dict[str, DatasetInfo] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    reserved: dict[str, float] = field(default_factory=dict)
    confirmed: set[str] = field(default_factory=set)
    settled: dict[str, float] = field(default_factory=dict)
    price: Decimal = Decimal(0)

    async def model(self, project: str, reference: str, holder: str = "") -> ModelInfo:
        for info in self.models.values():
            if project == PROJECT and reference in (
                info.version_id,
                *(n for n, one in self.models.items() if one is info),
            ):
                self.held |= {holder} - {""}
                return info
        raise NotFound.of("model", reference)

    async def checkpoint(self, project: str, checkpoint: str) -> CheckpointInfo:
        if project == PROJECT and checkpoint in self.checkpoints:
            return self.checkpoints[checkpoint]
        raise NotFound.of("checkpoint", checkpoint)

    async def deployment(self, project: str, deployment: str) -> str:
        raise NotFound.of("deployment", deployment)

    async def dataset(self, project: str, reference: str, holder: str = "") -> DatasetInfo:
        for name, info in self.datasets.items():
            if project == PROJECT and reference in (name, info.version_id):
                self.held |= {holder} - {""}
                return info
        raise NotFound.of("dataset", reference)

    async def store(self, project: str, credential: str, bucket: str) -> StoreInfo:
        if credential not in ("", "builtin"):
            raise NotFound.of("credential", credential)
        return StoreInfo(self.access, bucket or self.bucket)

    async def quote(
        self, project: str, minutes: tuple[float, float], spec_digest: str, description: str, notes: Sequence[str]
    ) -> common_pb2.Quote:
        item = common_pb2.Quote.Item(description=description, quantity_low=minutes[0], quantity_high=minutes[1])
        return common_pb2.Quote(id="quote-1", items=[item], notes=notes)

    async def reserve(self, project: str, holder: str, minutes: float, quote_id: str, spec_digest: str) -> Decimal:
        self.reserved[holder] = minutes
        return self.price

    async def confirm(self, project: str, holder: str) -> None:
        self.confirmed.add(holder)

    async def settle(self, project: str, holder: str, minutes: float) -> None:
        self.settled[holder] = minutes
        self.held.discard(holder)

    async def release(self, project: str, holder: str) -> None:
        self.held.discard(holder)


@dataclass(frozen=True)
class _Listen:
    listen: str = "127.0.0.1:0"


class World:
    """The service and what it stands on."""

    def __init__(self, home: Path, nats: RealNats, objects: RealObjects) -> None:
        access = StoreAccess(objects.url, objects.access_key, objects.secret_key, objects.region)
        self.bucket = f"eval-{secrets.token_hex(4)}"
        self.store = ObjectStore(access)
        self.store.ensure_bucket(self.bucket)
        self.neighbours = FakeNeighbours(access, self.bucket)
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
            worker_cpus=1,
            worker_memory_mb=2048,
        )
        self.issuer = TokenIssuer(secrets.token_hex(32))
        self.launcher = LocalLauncher(home, Capacity(cores=(0,), slots=1, memory_mb=4096))
        write_benchmark(home / "mmlu")
        upload_folder(self.store, self.bucket, "benchmarks/mmlu", home / "mmlu")
        upload_folder(self.store, self.bucket, "own/set", home / "mmlu")
        write_pairs(home / "pairs")
        pairs = upload_folder(self.store, self.bucket, "pairs", home / "pairs")
        files = FilesInfo(self.bucket, "pairs", json.dumps(pairs.to_json()))
        self.neighbours.datasets["desk"] = DatasetInfo("dsv-desk", files, "data.parquet", 3, True)

    def add_model(self, name: str, base: Path, adapter: Path | None = None) -> None:
        """Makes a model known."""

        def upload(path: Path) -> FilesInfo:
            manifest = upload_folder(self.store, self.bucket, f"models/{path.name}", path)
            return FilesInfo(self.bucket, f"models/{path.name}", json.dumps(manifest.to_json()))

        over = upload(adapter) if adapter else None
        self.neighbours.models[name] = ModelInfo(f"mv-{name}", "READY", "", 300_000, upload(base), over)

    async def start(self) -> None:
        """Opens everything and begins."""
        self.database = await Database.open(self.settings.database_url, "evaluation", MIGRATIONS)
        self.bus = Bus(self.settings)
        self.gate = WorkerGate(self.bus, self.settings.token_secret)
        self.relay = OutboxRelay(self.database, self.bus, self.settings)
        self.stage = EvaluationStage(self.database, self.neighbours, self.settings, self.launcher.capacity)
        self.engine = JobEngine(self.stage, JOB_TABLES, self.database, self.bus, self.launcher, self.settings)
        benchmarks = Benchmarks(self.neighbours.access, self.bucket, self.settings.benchmarks_prefix)
        desk = Desk(self.database, self.neighbours, self.stage, self.engine, benchmarks)
        self.server = RpcServer(_Listen(), self.issuer)
        self.server.add(
            EvaluationServicer(desk),
            evaluation_pb2_grpc.add_EvaluationServiceServicer_to_server,
            "modelry.evaluation.v1.EvaluationService",
        )
        await self.bus.start()
        await self.gate.start()
        await self.relay.start()
        await self.engine.start()
        self.channel = channel(f"127.0.0.1:{await self.server.start()}", translate_errors=True)
        self.stub: Any = evaluation_pb2_grpc.EvaluationServiceStub(self.channel)

    async def stop(self) -> None:
        """Ends everything, workers too."""
        await self.engine.stop()
        for program in await self.launcher.list():
            await self.launcher.kill(program.id)
        await self.channel.close()
        await self.server.stop(0)
        await self.relay.stop()
        await self.gate.stop()
        await self.bus.close()
        await self.database.close()

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
