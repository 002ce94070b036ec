"""The dataset service as a process of its own, beside a stand-in for access that knows a few credentials."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from deploy.local.testing import RealNats
from modelry.access.v1 import internal_pb2, internal_pb2_grpc
from modelry.dataset.v1 import dataset_pb2 as pb
from modelry.dataset.v1 import dataset_pb2_grpc
from modelry.dataset.v1.internal_pb2_grpc import DatasetInternalServiceStub
from services.chassis.auth import Principal, Role, TokenIssuer, current
from services.chassis.errors import NotFound, from_rpc_error
from services.chassis.launch import LocalLauncher
from services.chassis.objects import ObjectStore, StoreAccess

ROOT = Path(__file__).parents[3]
PROJECT = "proj-test"
OTHER = "proj-other"


class Access(internal_pb2_grpc.AccessInternalServiceServicer):
    """Resolves the credentials of a test."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], StoreAccess] = {}
        self.buckets: dict[str, str] = {}

    async def ResolveCredential(self, request: Any, context: Any) -> internal_pb2.ResolvedCredential:
        name = request.credential or "builtin"
        access = self.known.get((current().project, name))
        if access is None:
            raise NotFound.of("credential", name)
        return internal_pb2.ResolvedCredential(
            credential_id=f"cred-{name}", bucket=request.bucket or self.buckets.get(name, ""), **access.to_json()
        )

    async def IssueDeploymentKey(self, request: Any, context: Any) -> Any:
        raise NotFound("no deployments here")

    async def RevokeDeploymentKey(self, request: Any, context: Any) -> Any:
        raise NotFound("no deployments here")

    async def ResolveProject(self, request: Any, context: Any) -> Any:
        raise NotFound("no projects here")


@dataclass
class Listen:
    listen: str


@dataclass
class DatasetProcess:
    """A running service and a channel to it."""

    home: Path
    environment: dict[str, str]
    issuer: TokenIssuer
    port: int
    process: subprocess.Popen[bytes] | None = None
    channels: list[grpc.aio.Channel] = field(default_factory=list)

    async def start(self) -> None:
        with (self.home / "dataset.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.dataset"], cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.port}")
        await asyncio.wait_for(channel.channel_ready(), 30)
        await channel.close()

    def end(self, sign: int) -> None:
        if self.process is not None:
            self.process.send_signal(sign)
            self.process.wait(20)
            self.process = None

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def stop(self) -> None:
        self.end(signal.SIGTERM)

    def metadata(self, project: str = PROJECT, role: Role = Role.DEVELOPER, kind: Any = "user") -> Any:
        token = self.issuer.issue(Principal(project, role, "key-1", kind, "key-1"))
        return (("authorization", f"Bearer {token}"),)

    def channel(self) -> grpc.aio.Channel:
        opened = grpc.aio.insecure_channel(f"127.0.0.1:{self.port}")
        self.channels.append(opened)
        return opened

    async def close(self) -> None:
        for channel in self.channels:
            await channel.close()
        self.stop()
        launcher = LocalLauncher(self.home)
        for probe in await launcher.list():
            await launcher.kill(probe.id)


@dataclass
class World:
    """What a test has: the service, its stubs, the store and the stand-in for access."""

    service: DatasetProcess
    access: Access
    store: ObjectStore
    nats: RealNats
    bucket: str
    stub: dataset_pb2_grpc.DatasetServiceStub
    internal: DatasetInternalServiceStub

    async def call(self, method: str, request: Any, project: str = PROJECT) -> Any:
        """One call as a developer; errors as the chassis' classes."""
        try:
            return await getattr(self.stub, method)(request, metadata=self.service.metadata(project))
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error

    async def ask(self, method: str, request: Any, project: str = PROJECT) -> Any:
        """One internal call as a service."""
        try:
            metadata = self.service.metadata(project, Role.OWNER, "service")
            return await getattr(self.internal, method)(request, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error

    def put(self, key: str, data: bytes | str | list[Any]) -> str:
        """Stores an object in the team's bucket."""
        if isinstance(data, list):
            data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in data)
        self.store.put_bytes(self.bucket, key, data.encode() if isinstance(data, str) else data)
        return key

    async def create(self, name: str, key: str, **fields: Any) -> pb.DatasetVersion:
        """Begins an import of an object of the team's bucket."""
        request_id = fields.pop("request_id", "")
        credential = fields.pop("credential", "team")
        project = fields.pop("project", PROJECT)
        version = pb.DatasetVersion(**fields)
        version.object.credential, version.object.bucket, version.object.prefix = credential, self.bucket, key
        request = pb.CreateDatasetVersionRequest(
            dataset=name, dataset_version=version, create_dataset=True, request_id=request_id
        )
        result: pb.DatasetVersion = await self.call("CreateDatasetVersion", request, project)
        return result

    async def settled(self, version: pb.DatasetVersion, seconds: float = 60) -> pb.DatasetVersion:
        """The version once it is READY, PUBLISHED or FAILED."""
        request = pb.WatchDatasetVersionRequest(dataset=version.dataset_id, version=version.id)
        last = version

        async def follow() -> None:
            while last.state == pb.DatasetVersion.IMPORTING:
                try:
                    await watch()
                except grpc.aio.AioRpcError as error:  # the connection to a service that a test has killed
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise
                    await asyncio.sleep(0.05)

        async def watch() -> None:
            nonlocal last
            async for change in self.stub.WatchDatasetVersion(request, metadata=self.service.metadata()):
                last = change
                if last.state != pb.DatasetVersion.IMPORTING:
                    break

        await asyncio.wait_for(follow(), seconds)
        return await self.call(
            "GetDatasetVersion", pb.GetDatasetVersionRequest(dataset=version.dataset_id, version=version.id)
        )

    async def imported(self, name: str, key: str, **fields: Any) -> pb.DatasetVersion:
        """A whole import."""
        return await self.settled(await self.create(name, key, **fields))
