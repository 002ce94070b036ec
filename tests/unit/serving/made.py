"""Deployments and replicas for tests of the rules."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from services.chassis.objects import StoredFiles
from services.serving.domain.deciding import Seen
from services.serving.domain.entities import (
    Adapter,
    Billing,
    Deployment,
    Engine,
    Files,
    Mode,
    ModelFacts,
    Replica,
    ReplicaState,
    State,
)

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
BASE = Files("mv-base", StoredFiles("modelry", "models/base", "{}"), "sha256:base")
TUNED = Files("mv-tuned", StoredFiles("modelry", "models/tuned", "{}"), "sha256:tuned")
FULL = ModelFacts(
    base_version_id="mv-base",
    parameter_count=135_000_000,
    context_length=8192,
    shape={"layers": 30, "kv_heads": 3, "head_dim": 64, "hidden_size": 576, "bytes_per_value": 2},
    base=BASE,
)
ADAPTER = ModelFacts(
    adapter=True,
    base_version_id="mv-base",
    fine_tuned_name="ft:tiny:default:help:12345678",
    lora_rank=8,
    parameter_count=135_000_000,
    context_length=8192,
    base=BASE,
    own=TUNED,
)


def deployment(**fields: Any) -> Deployment:
    """A deployment of a whole model with one wanted replica, changed by the given fields."""
    values: dict[str, Any] = {
        "id": "dep-1",
        "project": "proj-1",
        "name": "help",
        "state": State.STARTING,
        "model": "tiny",
        "model_version_id": "mv-base",
        "facts": FULL,
        "replicas": 1,
        "engine": Engine(max_model_length=2048, kv_cache_gib=1.0),
        "accepts_adapters": True,
        "adapter_mode": Mode.AUTO,
        "effective_mode": Mode.NONE,
        "billing": Billing.DEDICATED,
        "create_time": MOMENT,
        "unit_price": Decimal("0.5"),
    }
    return Deployment(**{**values, **fields})


def adapter(**fields: Any) -> Adapter:
    """An adapter that is on the replicas."""
    name = "ft:tiny:default:help:12345678"
    values: dict[str, Any] = {
        "model_version_id": "mv-tuned", "fine_tuned_name": name, "engine_name": name, "files": TUNED, "rank": 8
    }  # fmt: skip
    return Adapter(**{**values, **fields})


def replica(state: ReplicaState, number: int = 1, **fields: Any) -> Replica:
    """A replica in a state; a higher number is a later one."""
    moment = MOMENT.replace(second=number)
    return Replica(f"rep-{number}", "proj-1", "dep-1", state, moment, moment, port=15000 + number, **fields)


def seen(state: ReplicaState, number: int = 1, restarts: int = 0, **fields: Any) -> Seen:
    """A replica as the reconciler sees it."""
    return Seen(replica(state, number, restart_count=restarts), **fields)
