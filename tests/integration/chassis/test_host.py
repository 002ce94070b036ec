"""A host starts parts in order, stops them in reverse, rolls back, and says in health what its parts lack."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from modelry.admin.v1 import admin_pb2, admin_pb2_grpc
from services.chassis.auth import Principal, Role
from services.chassis.host import ServiceHost
from services.chassis.readiness import Lack, LackLog
from services.chassis.settings import Settings

pytestmark = pytest.mark.integration

Eventually = Callable[..., Awaitable[None]]
Host = ServiceHost[Settings]


class Part:
    """A part that writes down what happens to it."""

    def __init__(self, name: str, heard: list[str], *, broken: bool = False) -> None:
        self._name, self._heard, self._broken = name, heard, broken
        self.lacks = LackLog()
        self.hindered = LackLog()

    async def start(self) -> None:
        if self._broken:
            raise RuntimeError(f"{self._name} does not start")
        self._heard.append(f"start {self._name}")

    async def stop(self) -> None:
        self._heard.append(f"stop {self._name}")

    def cannot_answer(self) -> list[Lack]:
        return self.lacks.all()

    def degraded(self) -> list[Lack]:
        return self.hindered.all()


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(token_secret="a secret that is long enough for tokens", probe_seconds=0.1)


def hosting(*parts: Part) -> Callable[[Host], Awaitable[None]]:
    async def assemble(host: Host) -> None:
        host.add(*parts)

    return assemble


async def test_parts_start_in_order_and_stop_in_reverse(settings: Settings, migrations: Path) -> None:
    heard: list[str] = []
    async with ServiceHost(settings, migrations, hosting(Part("a", heard), Part("b", heard))):
        assert heard == ["start a", "start b"]
    assert heard == ["start a", "start b", "stop b", "stop a"]


async def test_a_part_that_does_not_start_rolls_everything_back(settings: Settings, migrations: Path) -> None:
    heard: list[str] = []
    parts = Part("a", heard), Part("b", heard, broken=True), Part("c", heard)
    with pytest.raises(RuntimeError, match="b does not start"):
        await ServiceHost(settings, migrations, hosting(*parts)).start()
    assert heard == ["start a", "stop a"]
    async with ServiceHost(settings, migrations, hosting()) as host:  # the database was given up
        assert host.port


async def test_a_service_that_cannot_be_assembled_gives_its_database_up(settings: Settings, migrations: Path) -> None:
    async def assemble(host: Host) -> None:
        raise RuntimeError("no adapter")

    with pytest.raises(RuntimeError, match="no adapter"):
        await ServiceHost(settings, migrations, assemble).start()
    async with ServiceHost(settings, migrations, hosting()) as host:
        assert host.port


async def test_health_follows_what_cannot_answer_and_not_what_is_degraded(
    settings: Settings, migrations: Path, eventually: Eventually
) -> None:
    part = Part("a", [])
    async with (
        ServiceHost(settings, migrations, hosting(part)) as host,
        grpc.aio.insecure_channel(f"127.0.0.1:{host.port}") as channel,
    ):

        async def serving() -> bool:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

        async def not_serving() -> bool:
            return not await serving()

        part.hindered.note("loop", "It fails.")
        assert await serving()
        part.lacks.note("key", "It is not there.")
        await eventually(not_serving)
        part.lacks.clear("key")
        await eventually(serving)


async def test_a_service_tells_admins_its_lacks_with_since_when(settings: Settings, migrations: Path) -> None:
    part = Part("a", [])
    part.hindered.note("loop", "It fails.")
    async with (
        ServiceHost(settings, migrations, hosting(part)) as host,
        grpc.aio.insecure_channel(f"127.0.0.1:{host.port}") as channel,
    ):
        stub: Any = admin_pb2_grpc.AdminServiceStub(channel)

        def metadata(role: Role) -> Any:
            token = host.issuer.issue(Principal("proj-1", role, "key-1", "user", "key-1"))
            return (("authorization", f"Bearer {token}"),)

        health = (await stub.GetHealth(admin_pb2.GetHealthRequest(), metadata=metadata(Role.ADMIN))).services[0]
        assert health.service == "toy" and health.dead_letter_count == 0
        [lack] = [one for one in health.degraded if one.name == "loop"]
        assert lack.message == "It fails." and lack.since_time.seconds > 0
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.GetHealth(admin_pb2.GetHealthRequest(), metadata=metadata(Role.OWNER))
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
