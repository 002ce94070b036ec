"""The registry in this process, on real NATS and S3, with access in memory and presets that lie in folders."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from deploy.local.testing import RealNats, RealObjects
from modelry.registry.v1 import internal_pb2, internal_pb2_grpc, registry_pb2_grpc
from modelry.registry.v1 import registry_pb2 as pb
from services.chassis.auth import Principal, Role, TokenIssuer
from services.chassis.clock import now
from services.chassis.host import ServiceHost
from services.chassis.ids import new_id
from services.chassis.launch import Capacity, LocalLauncher
from services.chassis.objects import ObjectStore, StoreAccess, StoredFiles, upload_folder
from services.chassis.rpc import channel
from services.clients.fakes import FakeCredentials
from services.registry.__main__ import MIGRATIONS, add_parts
from services.registry.domain import Files, Kind, Model, ModelVersion, Origin
from services.registry.domain import State as ReadyState
from services.registry.settings import RegistrySettings

PROJECT, OTHER = "proj-1", "proj-2"
State = pb.ModelVersion.State


class World:
    """The service and its client."""

    def __init__(self, home: Path, nats: RealNats, objects: RealObjects) -> None:
        self.settings = RegistrySettings(
            service="registry",
            home=home / "home",
            reconcile_seconds=0.1,
            retry_min_seconds=0.1,
            retry_max_seconds=1,
            nats_url=nats.url,
            nats_password=nats.passwords["services"],
            token_secret=nats.token_secret,
            objects_endpoint=objects.url,
            objects_access_key=objects.access_key,
            objects_secret_key=objects.secret_key,
            prepare_attempts=2,
        )
        access = StoreAccess.of_settings(self.settings)
        self.objects, self.bucket = ObjectStore(access), objects.bucket
        self.credentials = FakeCredentials(access, self.bucket)
        for project in (PROJECT, OTHER):
            self.credentials.add_project(project, f"name-of-{project}")
        self.launcher = LocalLauncher(self.settings.home, Capacity((0, 1), 2, 8192, program_slots=4))
        self.preset_folder = home / "preset"
        self.issuer = TokenIssuer(self.settings.token_secret.get_secret_value())

    @property
    def catalogue(self) -> list[dict[str, Any]]:
        """One preset, `small`, from a folder."""
        facts = {"title": "Small", "hub_id": "maker/Small", "languages": ["en"], "license": "Apache-2.0"}
        sources = [{"kind": "directory", "path": str(self.preset_folder)}]
        return [{"name": "small", **facts, "parameter_count": 1, "context_length": 1, "sources": sources}]

    async def start(self) -> None:
        self.host = ServiceHost(self.settings, MIGRATIONS, self._assemble)
        await self.host.start()
        self.channel = channel(f"127.0.0.1:{self.host.port}", translate_errors=True)
        self.registry: Any = registry_pb2_grpc.RegistryServiceStub(self.channel)
        self.internal: Any = internal_pb2_grpc.RegistryInternalServiceStub(self.channel)

    async def _assemble(self, host: ServiceHost[RegistrySettings]) -> None:
        self.context = await add_parts(host, self.credentials, self.launcher, self.catalogue)

    async def stop(self) -> None:
        await self.channel.close()
        await self.host.stop()

    async def call(self, method: str, request: Any, project: str = PROJECT) -> Any:
        """One call of a user, or of a service where only services may call."""
        internal = hasattr(self.internal, method)
        principal = Principal(project, Role.OWNER, "key-1", "service" if internal else "user", "tester")
        metadata = (("authorization", f"Bearer {self.issuer.issue(principal)}"),)
        return await getattr(self.internal if internal else self.registry, method)(request, metadata=metadata)

    def upload(self, folder: Path, prefix: str) -> str:
        """Store a folder. Returns: its manifest as JSON."""
        self.objects.ensure_bucket(self.bucket)
        return json.dumps(upload_folder(self.objects, self.bucket, prefix, folder).to_json())

    async def import_folder(self, name: str, folder: Path) -> pb.ModelVersion:
        """Begin the import of a folder as the first version of a new model."""
        await asyncio.to_thread(self.upload, folder, f"{PROJECT}/{name}")
        await self.call("CreateModel", pb.CreateModelRequest(model=pb.Model(name=name)))
        version = pb.ModelVersion()
        version.source.prefix = f"{PROJECT}/{name}"
        return await self.call("CreateModelVersion", pb.CreateModelVersionRequest(model=name, model_version=version))

    async def add_base(self, name: str) -> ModelVersion:
        """A READY version of a new model, as its import would leave it, but without files."""
        moment, files = now(), Files(StoredFiles(self.bucket, "base", '{"files": []}'), "digest", 1)
        model = Model(new_id("mdl-"), PROJECT, name, "", {}, Origin.PRIVATE, moment, moment, "", (), "", 5, 64, 1, 1)
        version = ModelVersion(
            new_id("mv-"), PROJECT, model.id, name, 1, ReadyState.READY, Kind.FULL, moment, files=files
        )
        async with self.context.writing() as uow:
            await uow.models.add(model)
            await uow.versions.add(version)
            await uow.commit()
        return version

    async def get(self, model: str, version: str = "1") -> pb.ModelVersion:
        return await self.call("GetModelVersion", pb.GetModelVersionRequest(model=model, version=version))

    async def until(self, model: str, true: Callable[[pb.ModelVersion], bool], seconds: float = 60) -> pb.ModelVersion:
        async with asyncio.timeout(seconds):
            while not true(version := await self.get(model)):
                await asyncio.sleep(0.05)
        return version

    async def prepared(self, model: str) -> pb.ModelVersion:
        """The version once nothing is prepared any more."""
        return await self.until(model, lambda version: version.state != State.PREPARING)

    async def resolve(self, reference: str, holder: str = "") -> internal_pb2.ResolvedModel:
        return await self.call("ResolveModel", internal_pb2.ResolveModelRequest(reference=reference, holder=holder))

    def stored(self, prefix: str) -> set[str]:
        """Names of the files below a prefix."""
        return {info.key.removeprefix(prefix) for info in self.objects.list(self.bucket, prefix)}


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
