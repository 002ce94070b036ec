"""Versions of what serving tells only grow: of a deployment's events, and of its route after a restore."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

import services.serving
from services.chassis.data import Database, fetch, outbox
from services.clients.fakes import FakeBilling, FakeCredentials, FakeRegistry
from services.serving.clients import Clients
from services.serving.operations.context import ServiceContext
from services.serving.operations.deployment_state import change_deployment
from services.serving.operations.routes import all_routes, overtake_routes
from services.serving.settings import ServingSettings
from tests.unit.serving.made import deployment

pytestmark = pytest.mark.integration

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MIGRATIONS = Path(services.serving.__file__).parent / "migrations"


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[ServiceContext]:
    """A desk with one deployment, scaled to nothing: that is two facts."""
    database = await Database.open(f"sqlite:///{tmp_path}/serving.db", "serving", MIGRATIONS)
    others = Clients(FakeRegistry(), FakeBilling(), FakeCredentials())
    opened = ServiceContext(database, others, ServingSettings(home=tmp_path), cores=2)
    async with opened.writing() as uow:
        await uow.deployments.add(deployment())
        await uow.commit()
    await change_deployment("dep-1", lambda one: replace(one, replicas=0), opened, NOON, happening="scaled")
    yield opened
    await database.close()


async def test_two_events_of_one_change_have_versions_of_their_own(context: ServiceContext) -> None:
    rows = await fetch(context.database, select(outbox.c.body).where(outbox.c.kind == "event").order_by(outbox.c.id))
    told = [(event["happening"], event["version"]) for event in map(json.loads, rows.scalars())]
    assert [happening for happening, _ in told] == ["scaled", "idle"]
    assert [version for _, version in told] == [2, 3]


async def test_a_route_overtakes_what_a_newer_database_told(context: ServiceContext) -> None:
    ((_, (version, _)),) = (await all_routes(context.reading(), context.secret_of)).items()
    await overtake_routes(context, {"dep-1": (version + 6, None), "dep-gone": (3, None)})
    ((_, (raised, value)),) = (await all_routes(context.reading(), context.secret_of)).items()
    assert value is not None
    assert (raised, value["version"]) == (version + 7, version + 7)
