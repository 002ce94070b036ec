"""What all use cases share: the database, the store, and who is told of a change."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

from services.chassis.data import Database, Watchers
from services.chassis.events import Event
from services.chassis.garbage import GarbageCollector, on_store
from services.chassis.objects import AsyncObjectStore, ForeignStores, StoreAccess
from services.clients.credentials import CredentialClient
from services.registry.domain import Model, ModelVersion
from services.registry.store import GARBAGE, RegistryUnit

PRESET_OWNER = "presets"


@dataclass
class ServiceContext:
    """Handed to every use case.

    Attributes:
        system, bucket: the installation's store, where prepared weights lie.
        hold_seconds: how long an unconfirmed hold lasts.
        foreign: runs what is done at the stores of credentials.
        wake: set when there may be a version to prepare.
    """

    database: Database
    credentials: CredentialClient
    system: StoreAccess
    bucket: str
    hold_seconds: float
    watchers: Watchers[ModelVersion] = field(default_factory=Watchers)
    foreign: ForeignStores = field(default_factory=ForeignStores)
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def writing(self) -> RegistryUnit:
        """Return a unit of work that writes."""
        return RegistryUnit(self.database)

    def reading(self) -> RegistryUnit:
        """Return a unit of work that reads."""
        return RegistryUnit(self.database, write=False)

    def oldest_hold(self, now: datetime) -> datetime:
        """Return the moment before which a hold must have been taken to have fallen without a confirmation."""
        return now - timedelta(seconds=self.hold_seconds)

    @cached_property
    def garbage(self) -> GarbageCollector:
        """The collector of files that nothing refers to any more."""
        return GarbageCollector(self.database, GARBAGE, on_store(self.system))

    def prefix(self, version: ModelVersion) -> str:
        """Return the prefix below which everything of a version lies."""
        return f"models/{version.project or PRESET_OWNER}/{version.id}"

    async def weights_place(self, version: ModelVersion) -> tuple[str, str]:
        """Return the bucket, which is there from now on, and the prefix where the weights of a version lie."""
        await AsyncObjectStore(self.system).ensure_bucket(self.bucket)
        return self.bucket, f"{self.prefix(version)}/weights"


def version_event(after: ModelVersion, before: ModelVersion | None = None, happening: str = "") -> Event:
    """Return the event of a version's change: `created`, `preparing`, `ready`, `failed`, `deleted`."""
    words = after.state.name.lower() if before is not None or after.state.ended else "created"
    links = {
        "model": after.model_id,
        **({"base_model_version": after.base_id} if after.base_id else {}),
        **({"job": after.job_id, "checkpoint": after.checkpoint_id} if after.job_id else {}),
    }
    return Event(
        project=after.project or PRESET_OWNER,
        resource="modelVersion",
        resource_id=after.id,
        happening=happening or words,
        state=after.state.name,
        previous_state=before.state.name if before else "",
        version=after.version + (happening == "deleted"),
        cause=after.cause,
        links=links,
        terminal=after.state.ended and not happening,
    )


def model_event(model: Model, happening: str) -> Event:
    """Return the event of a model: `created`, `updated`, `deleted`."""
    version = model.version + (happening == "deleted")
    return Event(model.project, "model", model.id, happening, "", version=version)
