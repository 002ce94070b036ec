"""What can be called, and where: the routes that serving puts into the KV, kept in memory.

A record is applied only when its version is higher than the known one; a deleted deployment is a record too.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.clients.records import AdapterRecord, ReplicaRecord, RouteRecord


@dataclass(frozen=True)
class CallTarget:
    """What a call name means: the deployment, the name at the engine, the version that answers, and whether it can.

    Attributes:
        own: the name is one that the project gave itself.
        names: what a key may hold to call it. A deployment's names cover its own version and no other one hosted there.
    """

    route: RouteRecord
    engine_model: str
    model_version_id: str
    ready: bool
    own: bool
    names: tuple[str, ...]

    @property
    def rank(self) -> tuple[bool, bool]:
        """What it comes to among others of its name: a project's own goes before a shared one even when not ready."""
        return self.own, self.ready


class RouteView:
    """All routes, by deployment; asks in memory only."""

    def __init__(self) -> None:
        self._routes: dict[str, RouteRecord] = {}
        self._changed = asyncio.Event()

    def apply(self, deployment_id: str, record: Mapping[str, Any] | None) -> RouteRecord | None:
        """Take a record over unless it is older than what is known; None means gone. Returns the route if taken."""
        if record is None:
            self._routes.pop(deployment_id, None)
            self._wake()
            return None
        route = RouteRecord.from_json(record)
        known = self._routes.get(deployment_id)
        if known is not None and known.version >= route.version:
            return None
        self._routes[deployment_id] = route
        self._wake()
        return route

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def resolve(self, project: str, name: str) -> CallTarget | None:
        """Find what a call name means to a project: a deployment's name or id, or an `ft:` name; own ones first."""
        best: CallTarget | None = None
        for route in self._visible(project):
            target = _match(route, project, name)
            if target is not None and (best is None or target.rank > best.rank):
                best = target
        return best

    async def wait_until_known(self, project: str, name: str, seconds: float) -> CallTarget | None:
        """Wait for a target and return it; do not wait where nothing could host an adapter of the project."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.resolve(project, name) is None and self._hosts_adapters(project):
                    await self._changed.wait()
        return self.resolve(project, name)

    async def wait_until_ready(self, project: str, name: str, seconds: float) -> CallTarget | None:
        """Return the target as soon as it is ready, or as it is when the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while (target := self.resolve(project, name)) is not None and not target.ready:
                    await self._changed.wait()
        return self.resolve(project, name)

    def _hosts_adapters(self, project: str) -> bool:
        return any(route.accepts_adapters and route.replicas for route in self._visible(project))

    def callable_names(self, project: str) -> Iterator[tuple[str, CallTarget]]:
        """Yield every name that the project can call now, with what it means."""
        best: dict[str, CallTarget] = {}
        for route in self._visible(project):
            for name, target in _targets(route, project):
                if name not in best or target.rank > best[name].rank:
                    best[name] = target
        return ((name, target) for name, target in best.items() if target.ready)

    def replicas_of(self, deployment_id: str) -> Sequence[ReplicaRecord]:
        """Return the replicas that a deployment has now."""
        route = self._routes.get(deployment_id)
        return () if route is None or route.deleted else route.replicas

    def _visible(self, project: str) -> Iterator[RouteRecord]:
        return (route for route in self._routes.values() if route.visible_to(project))


def _match(route: RouteRecord, project: str, name: str) -> CallTarget | None:
    if name in (route.name, route.deployment_id):
        return _deployment(route, project)
    for adapter in route.adapters_of(project):
        if adapter.fine_tuned_name == name:
            return _adapter(route, adapter, project)
    return None


def _targets(route: RouteRecord, project: str) -> Iterator[tuple[str, CallTarget]]:
    yield route.name, _deployment(route, project)
    for adapter in route.adapters_of(project):
        yield adapter.fine_tuned_name, _adapter(route, adapter, project)


def _deployment(route: RouteRecord, project: str) -> CallTarget:
    own, names = route.project == project, (route.name, route.deployment_id)
    return CallTarget(route, route.engine_model, route.model_version_id, bool(route.replicas), own, names)


def _adapter(route: RouteRecord, adapter: AdapterRecord, project: str) -> CallTarget:
    ready, own = adapter.ready and bool(route.replicas), adapter.project == project
    names: tuple[str, ...] = (adapter.fine_tuned_name,)
    if adapter.model_version_id == route.model_version_id:
        names = (*names, route.name, route.deployment_id)
    return CallTarget(route, adapter.engine_model, adapter.model_version_id, ready, own, names)
