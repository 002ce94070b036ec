"""What other services ask: resolve a reference, and hold what it means."""

from datetime import datetime

from services.chassis.errors import NotFound
from services.chassis.holds import Hold
from services.dataset.domain import DatasetVersion, Reference, nothing_published, require_published
from services.dataset.operations.context import ServiceContext
from services.dataset.store import DatasetUnit


async def resolve_version(
    project: str, text: str, holder: str, context: ServiceContext, now: datetime
) -> DatasetVersion:
    """Return the published version that a reference means; held for `holder` unless that is empty.

    Raises: Invalid, NotFound; WrongState: it is not published.
    """
    reference = Reference.parse(text, "reference")
    unit = context.writing() if holder else context.reading()
    async with unit as uow:
        version = await _find(uow, project, reference, text)
        require_published(version)
        if holder:
            await uow.holds.take(Hold(version.id, holder, project, False, now))
            await uow.commit()
    return version


async def _find(uow: DatasetUnit, project: str, reference: Reference, text: str) -> DatasetVersion:
    if reference.version_id:
        return await uow.versions.get(project, reference.version_id)
    dataset = await uow.datasets.get(project, reference.dataset)
    result = await uow.version_of(dataset.id, reference.number, published=True)
    if result is None and reference.number is None:
        raise nothing_published(dataset.name)
    if result is None:
        raise NotFound.of("dataset version", text)
    return result
