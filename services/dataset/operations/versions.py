"""Versions: make (by importing), show, publish, delete, watch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from services.chassis.data import Page, PageQuery, retry_conflicts
from services.chassis.errors import AlreadyExists, Invalid, NotFound, WrongState
from services.chassis.holds import refuse_held
from services.chassis.ids import new_id
from services.chassis.names import check_labels, check_name
from services.dataset.domain import (
    ID_PREFIXES,
    PUBLISH,
    BadRowPolicy,
    Dataset,
    DatasetVersion,
    Format,
    RefusedRow,
    Source,
    State,
    VersionView,
    Work,
    check_import,
    version_key,
)
from services.dataset.operations.context import (
    Desk,
    check_page_size,
    dataset_event,
    offset_token,
    read_offset,
    version_event,
)
from services.dataset.operations.preview import PreviewRow, read_rows
from services.dataset.reading.formats import COLUMNS
from services.dataset.store import DatasetUnit


@dataclass(frozen=True)
class CreateVersion:
    """What to import, and into which data set."""

    project: str
    dataset: str
    create_dataset: bool
    source: Source
    format: Format
    columns: Mapping[str, str]
    policy: BadRowPolicy
    max_bad_rows: int
    draft: bool
    metadata: Mapping[str, str]
    request_id: str
    digest: str


async def create_version(desk: Desk, cmd: CreateVersion, now: datetime) -> VersionView:
    """Notes an import, after a look whether its source is there; the importer does it soon after.

    Raises: NotFound: data set, credential, file or object. Invalid: names the fields. AlreadyExists: the request id
        was used with another body.
    """
    _check(cmd)
    async with desk.writing() as uow:
        await _dataset(uow, cmd)
        version_id = await uow.claim_request(
            cmd.project, "CreateDatasetVersion", cmd.request_id, cmd.digest, new_id("dsv-")
        )
        first = await uow.versions.by_id(version_id)
        if first is not None:
            return await _shown(uow, first)
        await _check_file(uow, cmd)
        await uow.commit()
    source = cmd.source
    if not source.file_id:
        source = await desk.sources.check(cmd.project, source)
    try:
        view = await _insert(desk, cmd, version_id, source, now)
    except AlreadyExists:  # PostgreSQL: the same create, or the data set's name, at the same moment
        view = await _insert(desk, cmd, version_id, source, now)
    desk.wake.set()
    return view


def _check(cmd: CreateVersion) -> None:
    check_import(cmd.source, cmd.policy, cmd.max_bad_rows, cmd.columns)
    check_labels("", cmd.metadata, "dataset_version.")
    for ours in cmd.columns:
        if ours not in COLUMNS:
            path = "dataset_version.columns"
            raise Invalid(f"{ours!r} is no column of ours: {', '.join(sorted(COLUMNS))}", field=path)


async def _dataset(uow: DatasetUnit, cmd: CreateVersion) -> Dataset | None:
    found = await uow.datasets.find(cmd.project, cmd.dataset)
    if found is None:
        if not cmd.create_dataset:
            raise NotFound.of("dataset", cmd.dataset)
        check_name(cmd.dataset, "dataset", ID_PREFIXES)
    return found


async def _check_file(uow: DatasetUnit, cmd: CreateVersion) -> None:
    if cmd.source.file_id and await uow.files.find(cmd.project, cmd.source.file_id) is None:
        field = "dataset_version.file_id"
        message = f"{field}: there is no file {cmd.source.file_id!r} in this project."
        raise NotFound(message, metadata={"resource": "file", "name": cmd.source.file_id, "field": field})


async def _insert(desk: Desk, cmd: CreateVersion, version_id: str, source: Source, now: datetime) -> VersionView:
    async with desk.writing() as uow:
        first = await uow.versions.by_id(version_id)
        if first is not None:
            return await _shown(uow, first)
        await _check_file(uow, cmd)
        dataset = await _dataset(uow, cmd)
        if dataset is None:
            dataset = Dataset(new_id("ds-"), cmd.project, cmd.dataset, "", {}, 0, now, now)
            await uow.datasets.add(dataset)
            uow.emit(dataset_event(dataset, "created"))
        version = DatasetVersion(
            id=version_id,
            project=cmd.project,
            dataset_id=dataset.id,
            dataset_name=dataset.name,
            number=await uow.next_number(dataset.id),
            state=State.IMPORTING,
            source=source,
            format=cmd.format,
            columns=dict(cmd.columns),
            bad_row_policy=cmd.policy,
            max_bad_rows=cmd.max_bad_rows,
            draft=cmd.draft,
            metadata=dict(cmd.metadata),
            create_time=now,
            cause=f"import of {source.text} was asked for",
        )
        await uow.versions.add(version)
        work = Work(version.id)
        await uow.add_work(work)
        uow.emit(version_event(version))
        await uow.commit()
    return VersionView(version, work)


async def _shown(uow: DatasetUnit, version: DatasetVersion) -> VersionView:
    return VersionView(version, (await uow.work_of([version.id])).get(version.id))


async def find_version(uow: DatasetUnit, project: str, dataset: str, version: str) -> DatasetVersion:
    """A version by what a path names: data set (name or id) and number, id or `latest`.

    Raises: NotFound, Invalid.
    """
    key = version_key(version, "version")
    owner = await uow.datasets.get(project, dataset)
    found = await uow.version_of(owner.id, key)
    if found is None:
        raise NotFound.of("dataset version", f"{dataset}@{version}")
    return found


async def get_version(desk: Desk, project: str, dataset: str, version: str) -> VersionView:
    """One version with its progress. Raises: NotFound, Invalid."""
    async with desk.reading() as uow:
        return await _shown(uow, await find_version(uow, project, dataset, version))


async def list_versions(desk: Desk, project: str, dataset: str, page: PageQuery) -> Page[VersionView]:
    """A page of a data set's versions. Raises: NotFound, Invalid."""
    async with desk.reading() as uow:
        owner = await uow.datasets.get(project, dataset)
        found = await uow.versions.list(project, page, dataset_id=owner.id)
        work = await uow.work_of([item.id for item in found.items])
    return Page(tuple(VersionView(item, work.get(item.id)) for item in found.items), found.next_page_token)


@retry_conflicts
async def publish_version(
    desk: Desk, project: str, dataset: str, version: str, request: tuple[str, str], now: datetime
) -> VersionView:
    """Publishes a READY version; a published one is returned as it is.

    Args:
        request: request id and digest.

    Raises: NotFound; WrongState: it is still importing, or failed.
    """
    async with desk.writing() as uow:
        before = await find_version(uow, project, dataset, version)
        await uow.claim_request(project, "PublishDatasetVersion", *request, before.id)
        if before.state is State.PUBLISHED:
            return await _shown(uow, before)
        after = before.apply(PUBLISH, now, cause="published on request")
        await uow.versions.save(after)
        uow.emit(version_event(after, before))
        view = await _shown(uow, after)
        await uow.commit()
    desk.watchers.notify(after.id, view)
    return view


@retry_conflicts
async def delete_version(desk: Desk, project: str, dataset: str, version: str, now: datetime) -> None:
    """Removes a version, also one that is importing. Raises: NotFound; WrongState: something holds it."""
    async with desk.writing() as uow:
        found = await find_version(uow, project, dataset, version)
        ref = f"{found.dataset_name}@{found.number}"
        refuse_held("dataset version", ref, await uow.holds.holders([found.id], desk.oldest_hold(now)))
        await uow.delete_version(found)
        await uow.discard(desk.sources.bucket, desk.version_prefix(found))
        uow.emit(version_event(found, found, "deleted"))
        await uow.commit()
    desk.garbage.kick()
    desk.watchers.notify(found.id)


async def watch_version(
    desk: Desk, project: str, dataset: str, version: str, after_version: int
) -> AsyncIterator[VersionView]:
    """The version as it is, then each change and progress, up to a terminal state.

    Raises: NotFound: also when it is deleted meanwhile.
    """
    first = await get_version(desk, project, dataset, version)

    async def read() -> VersionView:
        async with desk.reading() as uow:
            return await _shown(uow, await uow.versions.get(project, first.resource.id))

    changes = desk.watchers.follow(
        first.resource.id, read, lambda view: view.resource.state.ended, after_version, pulses=True
    )
    async for view in changes:
        yield view


@dataclass(frozen=True)
class RowErrors:
    """A page of a report."""

    rows: list[RefusedRow]
    next_page_token: str
    total_count: int


async def list_row_errors(
    desk: Desk, project: str, dataset: str, version: str, page_size: int, page_token: str
) -> RowErrors:
    """A page of the refused rows. Raises: NotFound, Invalid."""
    size = check_page_size(page_size, 50, 1000)
    offset = read_offset(page_token)
    async with desk.reading() as uow:
        found = await find_version(uow, project, dataset, version)
        rows = await uow.row_errors(found.id, offset, size + 1)
    token = offset_token(rows[size].position) if len(rows) > size else ""
    return RowErrors(rows[:size], token, found.bad_row_count)


async def preview_version(
    desk: Desk, project: str, dataset: str, version: str, page_size: int, page_token: str
) -> tuple[list[PreviewRow], str]:
    """Rows as they were understood, and the token of the next page. Raises: NotFound, Invalid; WrongState: no rows."""
    size = check_page_size(page_size, 10, 100)
    offset = read_offset(page_token)
    async with desk.reading() as uow:
        found = await find_version(uow, project, dataset, version)
    if found.output is None:
        allowed = [State.READY.name, State.PUBLISHED.name]
        ref = f"{found.dataset_name}@{found.number}"
        raise WrongState.of("dataset version", ref, "preview", found.state.name, allowed)
    rows = await read_rows(desk.sources.system, found.output, offset, size)
    more = offset + len(rows) < found.output.row_count
    return rows, offset_token(offset + len(rows)) if more and rows else ""
