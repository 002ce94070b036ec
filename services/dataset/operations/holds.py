"""What other services ask: resolve a reference, hold what they use, let go."""

from __future__ import annotations

from datetime import datetime

from services.chassis.errors import NotFound
from services.dataset.domain import DatasetVersion, Hold, Reference, nothing_published, require_published
from services.dataset.operations.context import Desk
from services.dataset.store import DatasetUnit


async def resolve_version(desk: Desk, project: str, text: str, holder: str, now: datetime) -> DatasetVersion:
    """The published version that a reference means; held for `holder` unless that is empty.

    Raises: Invalid, NotFound; WrongState: it is not published.
    """
    reference = Reference.parse(text, "reference")
    unit = desk.writing() if holder else desk.reading()
    async with unit as uow:
        version = await _find(uow, project, reference, text)
        require_published(version)
        if holder:
            await uow.hold(Hold(version.id, holder, project, False, now))
            await uow.commit()
    return version


async def _find(uow: DatasetUnit, project: str, reference: Reference, text: str) -> DatasetVersion:
    if reference.version_id:
        return await uow.versions.get(project, reference.version_id)
    dataset = await uow.datasets.get(project, reference.dataset)
    found = await uow.version_of(dataset.id, reference.number, published=True)
    if found is None and reference.number is None:
        raise nothing_published(dataset.name)
    if found is None:
        raise NotFound.of("dataset version", text)
    return found


async def confirm_hold(desk: Desk, project: str, holder: str, event_id: str = "") -> None:
    """Makes the holds of a holder lasting. `event_id` is noted, when an event said so."""
    async with desk.writing() as uow:
        if event_id and not await uow.first_time(event_id, "holds"):
            return
        await uow.confirm_holds(project, holder)
        await uow.commit()


async def release_hold(desk: Desk, project: str, holder: str, event_id: str = "") -> None:
    """Lets go of everything that a holder holds."""
    async with desk.writing() as uow:
        if event_id and not await uow.first_time(event_id, "holds"):
            return
        await uow.release_holds(project, holder)
        await uow.commit()


async def drop_fallen_holds(desk: Desk, now: datetime) -> None:
    """Removes holds that nobody confirmed in time."""
    async with desk.writing() as uow:
        await uow.drop_fallen_holds(desk.oldest_hold(now))
        await uow.commit()
