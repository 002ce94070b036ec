"""What all use cases share: the database, the sources, and who is told of a change."""

import asyncio
import base64
import binascii
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

from services.chassis.data import Database, Watchers
from services.chassis.errors import Invalid
from services.chassis.events import Event
from services.chassis.garbage import GarbageCollector, on_store
from services.dataset.domain import Dataset, DatasetVersion, StoredFile, VersionView
from services.dataset.sources import Sources
from services.dataset.store import GARBAGE, DatasetUnit


@dataclass
class ServiceContext:
    """Handed to every use case.

    Attributes:
        hold_seconds: how long an unconfirmed hold lasts.
        watchers: are told of each change of a version, also of its progress.
        wake: set when there may be an import to start.
    """

    database: Database
    sources: Sources
    hold_seconds: float
    watchers: Watchers[VersionView] = field(default_factory=Watchers)
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def writing(self) -> DatasetUnit:
        """Return a unit of work that writes."""
        return DatasetUnit(self.database)

    def reading(self) -> DatasetUnit:
        """Return a unit of work that reads."""
        return DatasetUnit(self.database, write=False)

    def oldest_hold(self, now: datetime) -> datetime:
        """Return the moment before which a hold must have been taken to have fallen without a confirmation."""
        return now - timedelta(seconds=self.hold_seconds)

    def file_key(self, project: str, file_id: str) -> str:
        """Return where an uploaded file lies on the installation's store."""
        return f"files/{project}/{file_id}/content"

    def version_prefix(self, version: DatasetVersion, token: int = 0) -> str:
        """Return where a version's files lie; an attempt writes below its own token."""
        folder = f"datasets/{version.project}/{version.id}"
        return f"{folder}/{token}" if token else folder

    @cached_property
    def garbage(self) -> GarbageCollector:
        """The collector of files that nothing refers to any more."""
        return GarbageCollector(self.database, GARBAGE, on_store(self.sources.system))


def version_event(after: DatasetVersion, before: DatasetVersion | None = None, happening: str = "") -> Event:
    """Return the event of a version's change: `created`, `ready`, `published`, `failed`, `deleted`."""
    return Event(
        project=after.project,
        resource="datasetVersion",
        resource_id=after.id,
        happening=happening or (after.state.name.lower() if before else "created"),
        state=after.state.name,
        previous_state=before.state.name if before else "",
        version=after.version + (happening == "deleted"),
        cause=after.cause,
        links={"dataset": after.dataset_id, **({"file": after.source.file_id} if after.source.file_id else {})},
        terminal=after.state.ended and not happening,
    )


def dataset_event(dataset: Dataset, happening: str) -> Event:
    """Return the event of a data set: `created`, `updated`, `deleted`."""
    version = dataset.version + (happening == "deleted")
    return Event(dataset.project, "dataset", dataset.id, happening, "", version=version)


def file_event(file: StoredFile, happening: str) -> Event:
    """Return the event of a file: `created`, `deleted`."""
    return Event(file.project, "file", file.id, happening, "", version=file.version + (happening == "deleted"))


def offset_token(offset: int) -> str:
    """Return a page token for rows that never change."""
    return base64.urlsafe_b64encode(f"row {offset}".encode()).decode().rstrip("=")


def read_offset(token: str) -> int:
    """Return the offset of a page token; 0 without one. Raises: Invalid."""
    if not token:
        return 0
    try:
        word, number = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode().split(" ")
        if word != "row" or not number.isdecimal():
            raise ValueError(token)
        return int(number)
    except (ValueError, binascii.Error) as error:
        raise Invalid("page_token is not one that this list gave out.", field="page_token") from error


def check_page_size(size: int, default: int, most: int) -> int:
    """Return the size of a page. Raises: Invalid."""
    if not 0 <= size <= most:
        raise Invalid(f"page_size is {size}; it must be 1 to {most}.", field="page_size")
    return size or default
