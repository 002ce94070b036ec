"""A home with the real registry, access, gateway and serving, and a tiny model in it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc

from deploy.local.home import Home
from deploy.local.stack import Stack
from deploy.local.supervisor import Options, Supervisor
from modelry.registry.v1 import internal_pb2 as registry_internal
from modelry.registry.v1 import internal_pb2_grpc as registry_internal_grpc
from modelry.registry.v1 import registry_pb2, registry_pb2_grpc
from modelry.serving.v1 import serving_pb2 as pb
from modelry.serving.v1 import serving_pb2_grpc
from services.chassis.auth import Principal, Role, TokenIssuer
from services.chassis.errors import from_rpc_error
from services.chassis.launch import LocalLauncher
from services.chassis.objects import ObjectStore, StoreAccess, upload_folder

ROOT = Path(__file__).parents[3]
PROJECT = "proj-" + "0" * 26
PARTS = frozenset({"nats", "objects", "access", "registry", "serving"})
SETTINGS = """
launch_cpu_overcommit = 4.0
[serving]
backoff_min_seconds = 0.5
acknowledge_seconds = 10
drain_seconds = 20
meter_seconds = 1
"""


class World:
    """What a test has: stubs, the store, and words for what it does often."""

    def __init__(self, home: Path, supervisor: Supervisor) -> None:
        self.home, self.supervisor = home, supervisor
        state = json.loads((home / "state.json").read_text())
        self.ports: dict[str, int] = state["ports"]
        self.http: str = state["addresses"]["http"]
        self.stack = Stack(Home(home), self.ports)
        self.issuer = TokenIssuer((home / "secrets" / "token_secret").read_text().strip())
        self.key = (home / "admin.key").read_text().strip()
        self.channels = {
            name: grpc.aio.insecure_channel(f"127.0.0.1:{self.ports[name]}") for name in PARTS & {"registry", "serving"}
        }
        self.serving = serving_pb2_grpc.ServingServiceStub(self.channels["serving"])
        self.registry = registry_pb2_grpc.RegistryServiceStub(self.channels["registry"])
        self.registry_internal = registry_internal_grpc.RegistryInternalServiceStub(self.channels["registry"])
        self.launcher = LocalLauncher(home)
        environment = self.stack.environment("serving")
        secret = (home / "secrets" / "objects_secret_key").read_text().strip()
        access = StoreAccess(environment["MODELRY_OBJECTS_ENDPOINT"], environment["MODELRY_OBJECTS_ACCESS_KEY"], secret)
        self.store = ObjectStore(access)

    def metadata(self, kind: Any = "user", role: Role = Role.DEVELOPER) -> Any:
        token = self.issuer.issue(Principal(PROJECT, role, "key-1", kind, "key-1"))
        return (("authorization", f"Bearer {token}"),)

    async def call(
        self, method: str, request: Any, stub: Any = None, kind: Any = "user", role: Role = Role.DEVELOPER
    ) -> Any:
        """One call; errors as the chassis' classes."""
        try:
            return await getattr(stub or self.serving, method)(
                request, metadata=self.metadata(kind, role), wait_for_ready=True, timeout=30
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error

    async def until(self, true: Callable[[], Awaitable[Any]], seconds: float = 60) -> Any:
        """What `true` gives once it gives something."""
        end = time.monotonic() + seconds
        while True:
            found = await true()
            if found:
                return found
            assert time.monotonic() < end, f"not within {seconds} s"
            await asyncio.sleep(0.1)

    async def import_model(self, name: str, folder: Path) -> registry_pb2.ModelVersion:
        """A private model from the store, once it is READY."""
        bucket = "sources"
        self.store.ensure_bucket(PROJECT)
        await asyncio.to_thread(upload_folder, self.store, PROJECT, f"{bucket}/{name}", folder)
        await self.call(
            "CreateModel", registry_pb2.CreateModelRequest(model=registry_pb2.Model(name=name)), self.registry
        )
        version = registry_pb2.ModelVersion()
        version.source.prefix = f"{bucket}/{name}"
        request = registry_pb2.CreateModelVersionRequest(model=name, model_version=version)
        made = await self.call("CreateModelVersion", request, self.registry)

        async def ready() -> Any:
            get = registry_pb2.GetModelVersionRequest(model=name, version=made.id)
            found = await self.call("GetModelVersion", get, self.registry)
            assert found.state != registry_pb2.ModelVersion.FAILED, found.failure.message
            return found if found.state == registry_pb2.ModelVersion.READY else None

        return await self.until(ready, 120)

    async def publish_adapter(
        self, folder: Path, base_id: str, suffix: str, rank: int = 4
    ) -> registry_pb2.ModelVersion:
        """A published adapter, as training publishes one."""
        prefix = f"jobs/{suffix}"
        manifest = await asyncio.to_thread(upload_folder, self.store, PROJECT, prefix, folder)
        request = registry_internal.RegisterCheckpointRequest(
            model_name=suffix,
            checkpoint_id=f"ftckpt_{suffix}",
            job_id=f"ftjob-0000000000{suffix}",
            checkpoint_step=10,
            final=True,
            base_model_version_id=base_id,
            prefix=prefix,
            manifest_json=json.dumps(manifest.to_json()),
            lora_rank=rank,
            suffix=suffix,
            request_id=suffix,
        )
        return await self.call("RegisterCheckpoint", request, self.registry_internal, "service", Role.OWNER)

    async def create(self, **fields: Any) -> pb.Deployment:
        request_id = fields.pop("request_id", "")
        return await self.call(
            "CreateDeployment", pb.CreateDeploymentRequest(deployment=pb.Deployment(**fields), request_id=request_id)
        )

    async def get(self, ref: str) -> pb.Deployment:
        return await self.call("GetDeployment", pb.GetDeploymentRequest(deployment=ref))

    async def replicas(self, ref: str, state: int = 0) -> list[pb.Replica]:
        found = await self.call("ListReplicas", pb.ListReplicasRequest(deployment=ref))
        return [one for one in found.replicas if not state or one.state == state]

    async def in_state(self, ref: str, state: int, seconds: float = 240) -> pb.Deployment:
        async def there() -> Any:
            found = await self.get(ref)
            return found if found.state == state else None

        return await self.until(there, seconds)

    async def ask(self, model: str, tokens: int = 4, **more: Any) -> tuple[int, Any]:
        """One request through the gateway: its HTTP code and body."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": "What is 12 + 30?"}],
            "max_tokens": tokens,
            **more,
        }
        headers = {"Authorization": f"Bearer {self.key}"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.http}/v1/chat/completions", json=body, headers=headers) as answer,
        ):
            return answer.status, await answer.json()

    async def gateway_is_up(self) -> bool:
        """It listens, and knows the keys."""
        try:
            return (await self.ask("nobody"))[0] == 404
        except aiohttp.ClientConnectionError:
            return False

    async def answers(self, model: str, seconds: float = 30) -> Any:
        """The body of the first answer of a model."""

        async def asked() -> Any:
            status, body = await self.ask(model)
            return body if status == 200 else None

        return await self.until(asked, seconds)

    def kill_program(self, name: str) -> None:
        """Kill a process of the supervisor; it starts it again."""
        child = next(one for one in self.supervisor.children if one.program.name == name)
        assert child.process is not None
        os.kill(child.process.pid, signal.SIGKILL)

    async def close(self) -> None:
        for channel in self.channels.values():
            await channel.close()
        for probe in await self.launcher.list():
            await self.launcher.kill(probe.id)


@asynccontextmanager
async def open_world(home: Path, settings: str = SETTINGS) -> AsyncIterator[World]:
    """A home with everything; nothing of it is left behind."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "modelry.toml").write_text(settings)
    async with Supervisor(home, Options(only=PARTS)) as supervisor:
        world = World(home, supervisor)
        # By itself: with the supervisor it would be ready only when every stage is.
        with (home / "logs" / "gateway.log").open("ab") as log:
            argv = [sys.executable, "-m", "gateway"]
            gateway = subprocess.Popen(argv, env=world.stack.environment("gateway"), cwd=ROOT, stderr=log)
        try:
            await world.until(world.gateway_is_up, 30)
            yield world
        finally:
            gateway.terminate()
            gateway.wait(20)
            await world.close()
