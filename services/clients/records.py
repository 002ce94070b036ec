"""What gateways are told by records in the KV: access and serving write these values, gateways read them.

A record has a version, and only a higher one takes its place. Fields that a reader does not know are left out; what a
record of an older version lacks is the default here. `from_json` raises KeyError, TypeError or ValueError: it is no
such record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from services.chassis.auth import Role

KEY_BUCKET = "modelry_keys"
"""The bucket of API keys: hash of a secret -> KeyRecord."""
ROUTE_BUCKET = "modelry_routes"
"""The bucket of deployments: id -> RouteRecord."""
SOON_SECONDS = 5.0
"""When to ask again where no start was measured, or this one takes longer than the last."""


def network_of(text: str) -> IPv4Network | IPv6Network:
    """Return a network, or an address as one; IPv4 in IPv6 dress (`::ffff:10.0.0.1`) is IPv4. Raises: ValueError."""
    network = ip_network(text, strict=False)
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    return IPv4Network((mapped, network.prefixlen - 96)) if mapped and network.prefixlen >= 96 else network


@dataclass(frozen=True)
class KeyRecord:
    """An API key for one of its secrets. Admin keys have no project; `expire_time` is in Unix seconds."""

    key_id: str
    role: Role
    state: str
    version: int
    project: str = ""
    project_name: str = ""
    models: tuple[str, ...] = ("*",)
    addresses: tuple[IPv4Network | IPv6Network, ...] = ()
    expire_time: float | None = None

    @property
    def active(self) -> bool:
        """Return whether it is neither revoked nor expired."""
        return self.state == "ACTIVE"

    def may_call(self, *names: str) -> bool:
        """Return whether one of these call names of a model is on the key's list."""
        return "*" in self.models or not set(names).isdisjoint(self.models)

    def to_json(self) -> dict[str, Any]:
        """Return the record as it stands in the bucket."""
        texts = {"models": list(self.models), "addresses": [str(one) for one in self.addresses]}
        return {**vars(self), **texts, "role": self.role.name}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> KeyRecord:
        """Return the key of a record."""
        read: dict[str, Any] = {
            "role": Role[content["role"]],
            "version": int(content["version"]),
            "models": tuple(content.get("models") or cls.models),
            "addresses": tuple(map(network_of, content.get("addresses", ()))),
        }
        return cls(**{**_fields_of(cls, content), **read})


@dataclass(frozen=True)
class ReplicaRecord:
    """One engine that answers: id, host and port, and the key that it asks for."""

    id: str
    address: str
    secret: str = ""


@dataclass(frozen=True)
class AdapterRecord:
    """A tuned version on a deployment's replicas: its call name, its name at the engine, and whose it is."""

    fine_tuned_name: str
    model_version_id: str
    engine_model: str
    ready: bool
    project: str


@dataclass(frozen=True)
class CallLimits:
    """What a call may ask of a deployment.

    Attributes:
        sequences: most of one key at a replica at a time, and so of one call (`n` for each prompt).
        choices: most of `n` and `best_of`.
        logprobs: most tokens whose probability is told at each place.
    """

    sequences: int = 128
    choices: int = 128
    logprobs: int = 20


@dataclass(frozen=True)
class RouteRecord:
    """A deployment as gateways need it.

    Attributes:
        start_seconds: what the last start of a replica took; 0 where none was ready yet.
        starting_since: Unix time since when the first replica to come is on its way, while none answers; else 0.
    """

    deployment_id: str
    project: str
    name: str
    version: int
    engine_model: str
    model_version_id: str = ""
    state: str = ""
    deleted: bool = False
    max_model_length: int = 0
    billing: str = "DEDICATED"
    shared_with: tuple[str, ...] = ()
    accepts_adapters: bool = False
    replicas: tuple[ReplicaRecord, ...] = ()
    adapters: tuple[AdapterRecord, ...] = ()
    start_seconds: float = 0.0
    starting_since: float = 0.0
    limits: CallLimits = CallLimits()

    def seconds_to_start(self, now: float) -> float:
        """Return when a replica may answer again: what the last start took, less what has gone by; or soon."""
        gone = max(0.0, now - self.starting_since) if self.starting_since else 0.0
        left = self.start_seconds - gone
        return left if left > 0 else SOON_SECONDS

    def visible_to(self, project: str) -> bool:
        """Return whether a project may call it."""
        shared = self.billing == "SHARED" and project in self.shared_with
        return not self.deleted and (self.project == project or shared)

    def adapters_of(self, project: str) -> Iterator[AdapterRecord]:
        """Yield the adapters that a project may call: its own, and the deployment's own version."""
        for adapter in self.adapters:
            if adapter.project == project or adapter.model_version_id == self.model_version_id:
                yield adapter

    def to_json(self) -> dict[str, Any]:
        """Return the record as it stands in the bucket."""
        replicas = [dict(vars(one)) for one in self.replicas]
        adapters = [dict(vars(one)) for one in self.adapters]
        record = {**vars(self), "shared_with": list(self.shared_with), "replicas": replicas, "adapters": adapters}
        for name in ("start_seconds", "starting_since", "limits"):  # records of before had none: written as they were
            if record[name] == getattr(RouteRecord, name):
                del record[name]
        return record if self.limits == CallLimits() else {**record, "limits": dict(vars(self.limits))}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RouteRecord:
        """Return the route of a record; an early one may not say what the engine calls it, or whose an adapter is."""
        adapters = (
            {**_fields_of(AdapterRecord, one), "project": one.get("project") or content["project"]}
            for one in content.get("adapters", ())
        )
        read: dict[str, Any] = {
            "version": int(content["version"]),
            "engine_model": content.get("engine_model") or content["name"],
            "shared_with": tuple(content.get("shared_with", ())),
            "replicas": tuple(ReplicaRecord(**_fields_of(ReplicaRecord, one)) for one in content.get("replicas", ())),
            "adapters": tuple(AdapterRecord(**one) for one in adapters),
            "limits": CallLimits(**_fields_of(CallLimits, content.get("limits", {}))),
        }
        return cls(**{**_fields_of(cls, content), **read})


def _fields_of(kind: type[Any], content: Mapping[str, Any]) -> dict[str, Any]:
    return {one.name: content[one.name] for one in fields(kind) if one.name in content}
