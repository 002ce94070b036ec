"""Access as it runs, on real NATS and a real store: its own process's wiring, called over gRPC."""

from __future__ import annotations

import base64
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from deploy.local.testing import RealNats, RealObjects
from modelry.access.v1.access_pb2_grpc import AccessServiceStub
from modelry.access.v1.internal_pb2_grpc import AccessInternalServiceStub
from modelry.billing.v1.billing_pb2_grpc import BillingServiceStub
from modelry.billing.v1.internal_pb2_grpc import BillingInternalServiceStub
from modelry.events.v1.events_pb2_grpc import EventServiceStub
from services.access.__main__ import MIGRATIONS, assemble
from services.access.domain.projects import DEFAULT_ID
from services.access.settings import AccessSettings
from services.access.store import AccessUnit
from services.chassis.auth import Kind, Principal, Role, TokenIssuer
from services.chassis.host import ServiceHost
from services.chassis.rpc import channel


class House:
    """One running access, and callers of every kind."""

    def __init__(self, settings: AccessSettings) -> None:
        self.settings = settings
        self.issuer = TokenIssuer(settings.token_secret.get_secret_value())

    async def start(self) -> None:
        self.host = ServiceHost(self.settings, MIGRATIONS, assemble)
        await self.host.start()
        self.database, self.bus = self.host.database, self.host.bus
        self.channel = channel(f"127.0.0.1:{self.host.port}", translate_errors=True)
        self.plain = channel(f"127.0.0.1:{self.host.port}")

    async def stop(self) -> None:
        await self.channel.close()
        await self.plain.close()
        await self.host.stop()
        for name in ("access", "internal", "billing", "billing_internal", "events"):
            self.__dict__.pop(name, None)

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    def key(
        self, project: str = DEFAULT_ID, role: Role = Role.ADMIN, kind: Kind = "user", key_id: str = "key-test"
    ) -> tuple[tuple[str, str], ...]:
        """Metadata of a caller."""
        token = self.issuer.issue(Principal(project, role, key_id, kind, key_id))
        return (("authorization", f"Bearer {token}"),)

    def database_unit(self) -> AccessUnit:
        """What is stored, for a look past the API."""
        return AccessUnit(self.database, write=False)

    def service(self, project: str = DEFAULT_ID) -> tuple[tuple[str, str], ...]:
        """Metadata of one of Modelry's own services."""
        return self.key(project, Role.OWNER, "service", "")

    @cached_property
    def access(self) -> Any:
        return AccessServiceStub(self.channel)

    @cached_property
    def internal(self) -> Any:
        return AccessInternalServiceStub(self.channel)

    @cached_property
    def billing(self) -> Any:
        return BillingServiceStub(self.channel)

    @cached_property
    def billing_internal(self) -> Any:
        return BillingInternalServiceStub(self.channel)

    @cached_property
    def events(self) -> Any:
        return EventServiceStub(self.channel)


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[RealNats]:
    """A NATS of this test's own: it may be stopped, and its stream is empty."""
    with RealNats(tmp_path / "nats") as server:
        yield server


MakeSettings = Callable[..., AccessSettings]


@pytest.fixture
def make_settings(tmp_path: Path, nats: RealNats, s3_server: RealObjects) -> MakeSettings:
    """Settings of an access in a new home; every window is short."""

    def make(**changes: Any) -> AccessSettings:
        values = {
            "service": "access",
            "home": tmp_path / "home",
            "nats_url": nats.url,
            "nats_password": SecretStr(nats.passwords["services"]),
            "objects_endpoint": s3_server.url,
            "objects_access_key": s3_server.access_key,
            "objects_secret_key": SecretStr(s3_server.secret_key),
            "token_secret": SecretStr(secrets.token_urlsafe(32)),
            "vault_key": SecretStr(base64.b64encode(secrets.token_bytes(32)).decode()),
            "hold_seconds": 2,
            "sweep_seconds": 0.2,
            "retry_min_seconds": 0.1,
            "retry_max_seconds": 0.5,
            "compare_seconds": 1,
            "propagation_seconds": 3,
        }
        return AccessSettings(**{**values, **changes})

    return make


@pytest.fixture
async def house(make_settings: MakeSettings) -> AsyncIterator[House]:
    """Access on SQLite."""
    opened = House(make_settings())
    await opened.start()
    await opened.bus.session()  # what needs NATS is refused before
    yield opened
    await opened.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
async def any_house(request: pytest.FixtureRequest, make_settings: MakeSettings) -> AsyncIterator[House]:
    """Access on either database."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    opened = House(make_settings(database_url=url))
    await opened.start()
    yield opened
    await opened.stop()


@pytest.fixture
def make_house() -> type[House]:
    """For tests that start access themselves."""
    return House
