"""Data sets: make, show, change, delete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from services.chassis.data import Page, PageQuery, check_etag, retry_conflicts
from services.chassis.holds import refuse_held
from services.chassis.ids import new_id
from services.chassis.names import check_labels, check_name
from services.dataset.domain import ID_PREFIXES, Dataset
from services.dataset.operations.context import Desk, dataset_event, version_event


@dataclass(frozen=True)
class CreateDataset:
    """What to make."""

    project: str
    name: str
    title: str
    metadata: Mapping[str, str]
    request_id: str
    digest: str


@dataclass(frozen=True)
class UpdateDataset:
    """What to change; None leaves it."""

    project: str
    ref: str
    title: str | None
    metadata: Mapping[str, str] | None
    etag: str


@dataclass(frozen=True)
class ShownDataset:
    """A data set and the number of its newest published version (0 while there is none)."""

    dataset: Dataset
    latest_version: int = 0


async def create_dataset(desk: Desk, cmd: CreateDataset, now: datetime) -> ShownDataset:
    """Makes a data set without a version. Raises: Invalid, AlreadyExists."""
    check_name(cmd.name, "dataset.name", ID_PREFIXES)
    check_labels(cmd.title, cmd.metadata, "dataset.")
    async with desk.writing() as uow:
        new = new_id("ds-")
        dataset_id = await uow.claim_request(cmd.project, "CreateDataset", cmd.request_id, cmd.digest, new)
        if dataset_id != new:
            first = await uow.datasets.get(cmd.project, dataset_id)
            return ShownDataset(first, (await uow.newest_published([first.id])).get(first.id, 0))
        dataset = Dataset(new, cmd.project, cmd.name, cmd.title, dict(cmd.metadata), 0, now, now)
        await uow.datasets.add(dataset)
        uow.emit(dataset_event(dataset, "created"))
        await uow.commit()
    return ShownDataset(dataset)


async def get_dataset(desk: Desk, project: str, ref: str) -> ShownDataset:
    """One data set. Raises: NotFound."""
    async with desk.reading() as uow:
        dataset = await uow.datasets.get(project, ref)
        return ShownDataset(dataset, (await uow.newest_published([dataset.id])).get(dataset.id, 0))


async def list_datasets(desk: Desk, project: str, page: PageQuery) -> Page[ShownDataset]:
    """A page of data sets. Raises: Invalid."""
    async with desk.reading() as uow:
        found = await uow.datasets.list(project, page)
        newest = await uow.newest_published([item.id for item in found.items])
    shown = tuple(ShownDataset(item, newest.get(item.id, 0)) for item in found.items)
    return Page(shown, found.next_page_token)


@retry_conflicts
async def update_dataset(desk: Desk, cmd: UpdateDataset, now: datetime) -> ShownDataset:
    """Changes title or metadata. Raises: NotFound, Invalid, Conflict: the etag is stale."""
    async with desk.writing() as uow:
        dataset = await uow.datasets.get(cmd.project, cmd.ref)
        check_etag("dataset", cmd.ref, cmd.etag, dataset.version)
        dataset = dataset.change(cmd.title, cmd.metadata, now)
        await uow.datasets.save(dataset)
        uow.emit(dataset_event(dataset, "updated"))
        newest = await uow.newest_published([dataset.id])
        await uow.commit()
    return ShownDataset(dataset, newest.get(dataset.id, 0))


@retry_conflicts
async def delete_dataset(desk: Desk, project: str, ref: str, now: datetime) -> None:
    """Removes a data set with all its versions. Raises: NotFound; WrongState: something holds a version."""
    async with desk.writing() as uow:
        dataset = await uow.datasets.get(project, ref)
        versions = await uow.versions_in(dataset.id)
        holders = await uow.holds.holders([version.id for version in versions], desk.oldest_hold(now))
        refuse_held("dataset", dataset.name, holders)
        for version in versions:
            await uow.delete_version(version)
            await uow.discard(desk.sources.bucket, desk.version_prefix(version))
            uow.emit(version_event(version, version, "deleted"))
        await uow.datasets.delete(dataset)
        uow.emit(dataset_event(dataset, "deleted"))
        await uow.commit()
    desk.garbage.kick()
    for version in versions:
        desk.watchers.notify(version.id)
