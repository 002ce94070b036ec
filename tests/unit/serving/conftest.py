"""Serving without a process: its use cases on a database of their own, with the other services in memory."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.chassis.objects import StoredFiles
from services.clients.fakes import FakeBilling, FakeCredentials, FakeRegistry
from services.clients.registry import ModelInfo
from services.serving.clients import Clients
from services.serving.operations.context import PRICE_ITEM, ServiceContext
from services.serving.settings import ServingSettings
from tests.unit.conftest import OpenDatabase
from tests.unit.serving.made import FULL


class Fakes(Clients):
    """The other services in memory."""

    registry: FakeRegistry
    billing: FakeBilling
    credentials: FakeCredentials


@pytest.fixture
def others() -> Fakes:
    """They know the model `tiny` and the price of a core for an hour."""
    made = Fakes(FakeRegistry(), FakeBilling(), FakeCredentials())
    made.billing.prices[PRICE_ITEM] = Decimal("0.5")
    files = StoredFiles("modelry", "models/base", "{}")
    tiny = ModelInfo(
        version_id="mv-base",
        state="READY",
        model_name="tiny",
        parameter_count=FULL.parameter_count,
        context_length=FULL.context_length,
        shape=FULL.shape,
        files=files,
        digest="digest",
    )
    made.registry.add(tiny, "tiny")
    return made


@pytest.fixture
async def context(open_database: OpenDatabase, others: Fakes, tmp_path: Path) -> ServiceContext:
    """Serving on a machine of four cores."""
    settings = ServingSettings(
        service="serving", home=tmp_path, token_secret=SecretStr("0" * 64), replicas_kept=1, failing_restarts=2
    )
    return ServiceContext(await open_database("serving"), others, settings, cores=4)
