"""What all use cases share: the database, the other services, and who is told of a change."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property

from services.chassis.data import Database, Watchers
from services.chassis.events import Event, Record
from services.chassis.objects import ObjectStore, StoreAccess
from services.chassis.transitions import Failure
from services.serving.clients import Clients
from services.serving.domain import Deployment, Replica, State, route_of, stand, with_secrets
from services.serving.settings import ServingSettings
from services.serving.store import ServingUnit

ROUTES = "modelry_routes"
PRICE_ITEM = "replica-hour"


@dataclass
class Desk:
    """Handed to every use case.

    Attributes:
        cores: cores that the launcher gives out.
        wake: set when there may be something to do.
        troubles: why the files of a deployment cannot be had, by its id; made anew by each process.
    """

    database: Database
    clients: Clients
    settings: ServingSettings
    cores: int
    watchers: Watchers[Deployment] = field(default_factory=Watchers)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    troubles: dict[str, Failure] = field(default_factory=dict)

    def writing(self) -> ServingUnit:
        """A unit of work that writes."""
        return ServingUnit(self.database)

    def reading(self) -> ServingUnit:
        """A unit of work that reads."""
        return ServingUnit(self.database, write=False)

    @cached_property
    def store(self) -> ObjectStore:
        """The installation's store, where the files of all versions lie. Its operations block."""
        return ObjectStore(StoreAccess.of_settings(self.settings))

    def secret_of(self, replica_id: str) -> str:
        """The key that a replica asks for. Derived, so that it is stored nowhere here."""
        secret = self.settings.token_secret.get_secret_value().encode()
        return hmac.new(secret, f"replica/{replica_id}".encode(), hashlib.sha256).hexdigest()

    def base_url(self) -> str:
        """Where OpenAI clients find the gateway."""
        address = self.settings.http_address
        if not address:
            try:
                noted = json.loads((self.settings.home / "state.json").read_text("utf-8"))
                address = str(noted["addresses"]["http"])
            except (OSError, ValueError, KeyError, TypeError):
                return ""
        return f"{address.rstrip('/')}/v1" if "://" in address else f"http://{address}/v1"


def event_of(after: Deployment, before: Deployment | None, happening: str, **links: str) -> Event:
    """The event of a deployment's change."""
    always = {"model_version": after.model_version_id}
    if after.facts.base_version_id:
        always["base_model_version"] = after.facts.base_version_id
    return Event(
        project=after.project,
        resource="deployment",
        resource_id=after.id,
        happening=happening,
        state=after.state.name,
        previous_state=before.state.name if before else "",
        version=after.version,
        cause=after.cause,
        links={**always, **links},
        terminal=after.state.ended,
    )


async def settle(
    desk: Desk,
    uow: ServingUnit,
    before: Deployment,
    after: Deployment,
    replicas: Sequence[Replica],
    now: datetime,
    happening: str = "",
) -> Deployment:
    """Save a deployment whose replicas or wishes changed: its state, its route, its event. Inside the unit.

    `happening` is emitted even where the state is the same; a new state is emitted by its own name.
    """
    state, failure = stand(after, replicas, desk.settings.failing_restarts, desk.troubles.get(after.id))
    ready = sum(one.state.name == "READY" for one in replicas)
    first = after.first_ready_time or (now if state is State.READY else None)
    after = replace(after, state=state, failure=failure, ready_replicas=ready, first_ready_time=first)
    route = route_of(after, replicas)
    if route != dict(before.route):
        after = replace(after, route=route, route_version=before.route_version + 1)
    if after == before:
        return before
    after = replace(after, version=before.version + 1)
    await uow.deployments.save(after)
    if after.route_version != before.route_version:
        uow.put_record(record_of(desk, after))
    if state is not before.state:
        uow.emit(event_of(after, before, state.name.lower()))
    if happening and not (state is not before.state and happening == state.name.lower()):
        uow.emit(event_of(after, before, happening))
    return after


def record_of(desk: Desk, deployment: Deployment) -> Record:
    """The route as gateways read it."""
    value = with_secrets(deployment.route, deployment.route_version, desk.secret_of)
    return Record(ROUTES, deployment.id, deployment.route_version, value)
