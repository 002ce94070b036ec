"""Data sets: make, show, change, delete."""

from dataclasses import dataclass, replace
from datetime import datetime

from services.chassis.data import Page, PageQuery, check_etag, retry_conflicts
from services.chassis.holds import refuse_held
from services.chassis.ids import new_id
from services.chassis.names import CreateNamed, UpdateLabels
from services.dataset.domain import ID_PREFIXES, Dataset
from services.dataset.operations.context import ServiceContext, dataset_event, version_event
from services.dataset.store import DatasetUnit


@dataclass(frozen=True)
class ShownDataset:
    """A data set and the number of its newest published version (0 while there is none)."""

    dataset: Dataset
    latest_version: int = 0


async def create_dataset(command: CreateNamed, context: ServiceContext, now: datetime) -> ShownDataset:
    """Create a data set without a version. Raises: Invalid, AlreadyExists."""
    command.check("dataset.", ID_PREFIXES)
    async with context.writing() as uow:
        new = new_id("ds-")
        dataset_id = await uow.claim_request(command.project, "CreateDataset", command.request_id, command.digest, new)
        if dataset_id != new:
            return await _shown(uow, await uow.datasets.get(command.project, dataset_id))
        dataset = Dataset(new, command.project, command.name, command.title, dict(command.metadata), 0, now, now)
        await uow.datasets.add(dataset)
        uow.emit(dataset_event(dataset, "created"))
        await uow.commit()
    return ShownDataset(dataset)


async def get_dataset(project: str, ref: str, context: ServiceContext) -> ShownDataset:
    """Return one data set. Raises: NotFound."""
    async with context.reading() as uow:
        return await _shown(uow, await uow.datasets.get(project, ref))


async def _shown(uow: DatasetUnit, dataset: Dataset) -> ShownDataset:
    return ShownDataset(dataset, (await uow.newest_published([dataset.id])).get(dataset.id, 0))


async def list_datasets(project: str, page: PageQuery, context: ServiceContext) -> Page[ShownDataset]:
    """Return a page of data sets. Raises: Invalid."""
    async with context.reading() as uow:
        datasets = await uow.datasets.list(project, page)
        newest = await uow.newest_published([item.id for item in datasets.items])
    shown = tuple(ShownDataset(item, newest.get(item.id, 0)) for item in datasets.items)
    return Page(shown, datasets.next_page_token)


@retry_conflicts
async def update_dataset(command: UpdateLabels, context: ServiceContext, now: datetime) -> ShownDataset:
    """Change title or metadata. Raises: NotFound, Invalid, Conflict: the etag is stale."""
    async with context.writing() as uow:
        dataset = await uow.datasets.get(command.project, command.ref)
        check_etag("dataset", command.ref, command.etag, dataset.version)
        dataset = replace(dataset, **command.changes("dataset."), update_time=now, version=dataset.version + 1)
        await uow.datasets.save(dataset)
        uow.emit(dataset_event(dataset, "updated"))
        shown = await _shown(uow, dataset)
        await uow.commit()
    return shown


@retry_conflicts
async def delete_dataset(project: str, ref: str, context: ServiceContext, now: datetime) -> None:
    """Delete a data set with all its versions. Raises: NotFound; WrongState: something holds a version."""
    async with context.writing() as uow:
        dataset = await uow.datasets.get(project, ref)
        versions = await uow.versions_in(dataset.id)
        holders = await uow.holds.holders([version.id for version in versions], context.oldest_hold(now))
        refuse_held("dataset", dataset.name, holders)
        for version in versions:
            await uow.delete_version(version)
            await uow.discard(context.sources.bucket, context.version_prefix(version))
            uow.emit(version_event(version, version, "deleted"))
        await uow.datasets.delete(dataset)
        uow.emit(dataset_event(dataset, "deleted"))
        await uow.commit()
    context.garbage.kick()
    for version in versions:
        context.watchers.notify(version.id)
