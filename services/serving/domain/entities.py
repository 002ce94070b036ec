"""Deployments, adapters and replicas, and how they change state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any

from services.chassis.errors import WrongState
from services.chassis.money import cost_of
from services.chassis.objects import StoredFiles
from services.chassis.transitions import Failure


class State(Enum):
    """Where a deployment stands."""

    STARTING = 1
    READY = 2
    DEGRADED = 3
    IDLE = 4
    FAILING = 5
    DELETING = 6
    DELETED = 7

    @property
    def ended(self) -> bool:
        """Whether nothing changes any more."""
        return self is State.DELETED

    @property
    def going(self) -> bool:
        """Whether it is being deleted, or was."""
        return self in (State.DELETING, State.DELETED)


class Mode(Enum):
    """How an adapter is served; NONE for a whole model."""

    NONE = 0
    AUTO = 1
    MERGED = 2
    ATTACHED = 3


class Billing(Enum):
    """How a deployment is paid."""

    DEDICATED = 1
    SHARED = 2


class ReplicaState(Enum):
    """Where a replica stands; ENDED and FAILED are terminal."""

    PENDING = 1
    STARTING = 2
    READY = 3
    DRAINING = 4
    ENDED = 5
    FAILED = 6

    @property
    def ended(self) -> bool:
        """Whether nothing changes any more."""
        return self in (ReplicaState.ENDED, ReplicaState.FAILED)

    @property
    def active(self) -> bool:
        """Whether it counts as one of the wanted replicas."""
        return self in (ReplicaState.PENDING, ReplicaState.STARTING, ReplicaState.READY)


REPLICA_SOURCES: Mapping[ReplicaState, frozenset[ReplicaState]] = {
    ReplicaState.STARTING: frozenset({ReplicaState.PENDING}),
    ReplicaState.READY: frozenset({ReplicaState.STARTING}),
    ReplicaState.DRAINING: frozenset({ReplicaState.READY, ReplicaState.STARTING}),
    ReplicaState.ENDED: frozenset({ReplicaState.PENDING, ReplicaState.STARTING, ReplicaState.DRAINING}),
    ReplicaState.FAILED: frozenset({ReplicaState.PENDING, ReplicaState.STARTING, ReplicaState.READY}),
}
"""Target -> the states from which a replica may go there."""


@dataclass(frozen=True)
class Engine:
    """Options of the engine, as they are in force."""

    max_model_length: int = 0
    kv_cache_gib: float = 0.0
    compile: bool = False
    max_sequences: int = 0
    cpus: int = 0


@dataclass(frozen=True)
class Files:
    """The files of a version, and the digest of their content."""

    version_id: str
    stored: StoredFiles
    digest: str


@dataclass(frozen=True)
class ModelFacts:
    """What the registry knows of the model. `files` are None until it is prepared."""

    adapter: bool = False
    base_version_id: str = ""
    fine_tuned_name: str = ""
    lora_rank: int = 0
    parameter_count: int = 0
    context_length: int = 0
    size_bytes: int = 0
    shape: Mapping[str, int] = field(default_factory=dict)
    base: Files | None = None
    own: Files | None = None

    @property
    def prepared(self) -> bool:
        """Whether every file is known."""
        return self.base is not None and (self.own is not None or not self.adapter)


@dataclass(frozen=True)
class Adapter:
    """A tuned version on the replicas.

    `engine_name` is what the engine calls it; never the same for two contents. `own` marks the version that the
    deployment itself serves. `project` is whose it is; empty: the deployment's.
    """

    model_version_id: str
    fine_tuned_name: str
    engine_name: str
    files: Files
    rank: int = 0
    own: bool = False
    ready: bool = False
    cause: str = ""
    project: str = ""


@dataclass(frozen=True)
class Deployment:
    """A model version behind an address."""

    id: str
    project: str
    name: str
    state: State
    model: str
    model_version_id: str
    facts: ModelFacts
    replicas: int
    engine: Engine
    accepts_adapters: bool
    adapter_mode: Mode
    effective_mode: Mode
    billing: Billing
    create_time: datetime
    title: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    shared_with: tuple[str, ...] = ()
    ready_replicas: int = 0
    adapters: tuple[Adapter, ...] = ()
    key_id: str = ""
    quote_id: str = ""
    max_cost: Decimal | None = None
    unit_price: Decimal = Decimal(0)
    slice: int = 0
    slice_hours: float = 0.0
    used_hours: float = 0.0
    failure: Failure | None = None
    route: Mapping[str, Any] = field(default_factory=dict)
    route_version: int = 0
    version: int = 1
    cause: str = ""
    first_ready_time: datetime | None = None

    def changed(self, **changes: Any) -> Deployment:
        """Return the deployment with these values, one version later."""
        return replace(self, **changes, version=self.version + 1)

    @property
    def attaches(self) -> bool:
        """Whether its engine takes adapters."""
        return self.accepts_adapters or self.effective_mode is Mode.ATTACHED

    @property
    def cost(self) -> Decimal:
        """What its replicas have cost so far."""
        return cost_of(self.used_hours, self.unit_price)

    @property
    def served_name(self) -> str:
        """What the engine calls the weights that it starts with: the deployment's name, or the base's version."""
        return self.facts.base_version_id if self.effective_mode is Mode.ATTACHED else self.name

    @property
    def key_claimable(self) -> bool:
        """Whether its key can be claimed now."""
        return not self.state.going and self.first_ready_time is not None and not self.key_id

    def require_living(self, verb: str) -> None:
        """Refuse a deployment that is being deleted. Raises: WrongState."""
        if self.state.going:
            allowed = [state.name for state in State if not state.going]
            raise WrongState.of("deployment", self.name, verb, self.state.name, allowed)

    def with_adapter(self, adapter: Adapter, cause: str) -> Deployment:
        """Return it with one more adapter; a newer content of the same call name takes the place of the older one."""
        others = tuple(
            one
            for one in self.adapters
            if one.model_version_id != adapter.model_version_id
            and (one.own or one.fine_tuned_name != adapter.fine_tuned_name)
        )
        return self.changed(adapters=(*others, adapter), cause=cause)

    def without_adapter(self, version_id: str, cause: str) -> Deployment:
        """Return it without the adapter of a version."""
        left = tuple(one for one in self.adapters if one.model_version_id != version_id)
        return self.changed(adapters=left, cause=cause)


@dataclass(frozen=True)
class Replica:
    """One start of an engine; a restart is a new replica."""

    id: str
    project: str
    deployment_id: str
    state: ReplicaState
    create_time: datetime
    update_time: datetime
    port: int = 0
    cpu_count: int = 1
    cpus: str = ""
    pid: int = 0
    restart_count: int = 0
    ready_seconds: float = 0.0
    drain_version: int = 0
    cause: str = ""
    version: int = 1

    @property
    def address(self) -> str:
        """Host and port of its HTTP server; empty before it has one."""
        return f"127.0.0.1:{self.port}" if self.port else ""

    def apply(self, target: ReplicaState, now: datetime, cause: str, **changes: Any) -> Replica:
        """Return the replica in another state. Raises: WrongState."""
        sources = REPLICA_SOURCES.get(target, frozenset())
        if self.state not in sources:
            names = [state.name for state in sources]
            raise WrongState.of("replica", self.id, target.name.lower(), self.state.name, names)
        return replace(self, state=target, cause=cause, update_time=now, version=self.version + 1, **changes)

    def noted(self, now: datetime, **changes: Any) -> Replica:
        """Return the replica in the same state with other facts."""
        return replace(self, update_time=now, version=self.version + 1, **changes)
