"""Versions: make (by importing), show, publish, delete, watch."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from services.chassis.data import Page, PageQuery, retry_conflicts
from services.chassis.errors import AlreadyExists, Invalid, NotFound, WrongState
from services.chassis.holds import refuse_held
from services.chassis.ids import new_id
from services.chassis.names import check_metadata, check_name
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
    ServiceContext,
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


async def create_version(command: CreateVersion, context: ServiceContext, now: datetime) -> VersionView:
    """Note an import, once its source is known to be there; the importer runs it soon after.

    Raises: NotFound: data set, credential, file or object. Invalid: names the fields. AlreadyExists: the request id
        was used with another body.
    """
    _check(command)
    async with context.writing() as uow:
        version_id = await uow.claim_request(
            command.project, "CreateDatasetVersion", command.request_id, command.digest, new_id("dsv-")
        )
        first = await uow.versions.by_id(version_id)
        if first is not None:
            return await _shown(uow, first)
        await _dataset(uow, command)
        await _check_file(uow, command)
        await uow.commit()
    source = command.source
    if not source.file_id:
        source = await context.sources.check(command.project, source)
    try:
        view = await _insert(command, version_id, source, context, now)
    except AlreadyExists:  # PostgreSQL: the same create, or the data set's name, at the same moment
        view = await _insert(command, version_id, source, context, now)
    context.wake.set()
    return view


def _check(command: CreateVersion) -> None:
    check_import(command.source, command.policy, command.max_bad_rows, command.columns)
    check_metadata(command.metadata, "dataset_version.")
    for ours in command.columns:
        if ours not in COLUMNS:
            path = "dataset_version.columns"
            raise Invalid(f"{ours!r} is no column of ours: {', '.join(sorted(COLUMNS))}.", field=path)


async def _dataset(uow: DatasetUnit, command: CreateVersion) -> Dataset | None:
    dataset = await uow.datasets.find(command.project, command.dataset)
    if dataset is None:
        if not command.create_dataset:
            raise NotFound.of("dataset", command.dataset)
        check_name(command.dataset, "dataset", ID_PREFIXES)
    return dataset


async def _check_file(uow: DatasetUnit, command: CreateVersion) -> None:
    if command.source.file_id and await uow.files.find(command.project, command.source.file_id) is None:
        field = "dataset_version.file_id"
        message = f"{field}: there is no file {command.source.file_id!r} in this project."
        raise NotFound(message, metadata={"resource": "file", "name": command.source.file_id, "field": field})


async def _insert(
    command: CreateVersion, version_id: str, source: Source, context: ServiceContext, now: datetime
) -> VersionView:
    async with context.writing() as uow:
        first = await uow.versions.by_id(version_id)
        if first is not None:
            return await _shown(uow, first)
        await uow.refuse_deleted(version_id)
        await _check_file(uow, command)
        dataset = await _dataset(uow, command)
        if dataset is None:
            dataset = Dataset(new_id("ds-"), command.project, command.dataset, "", {}, 0, now, now)
            await uow.datasets.add(dataset)
            uow.emit(dataset_event(dataset, "created"))
        version = DatasetVersion(
            id=version_id,
            project=command.project,
            dataset_id=dataset.id,
            dataset_name=dataset.name,
            number=await uow.next_number(dataset.id),
            state=State.IMPORTING,
            source=source,
            format=command.format,
            columns=dict(command.columns),
            bad_row_policy=command.policy,
            max_bad_rows=command.max_bad_rows,
            draft=command.draft,
            metadata=dict(command.metadata),
            create_time=now,
            cause=f"The import of {source.text} was asked for.",
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
    """Return a version by what a path names: data set (name or id) and number, id or `latest`.

    Raises: NotFound, Invalid.
    """
    key = version_key(version, "version")
    owner = await uow.datasets.get(project, dataset)
    result = await uow.version_of(owner.id, key)
    if result is None:
        raise NotFound.of("dataset version", f"{dataset}@{version}")
    return result


async def get_version(project: str, dataset: str, version: str, context: ServiceContext) -> VersionView:
    """Return one version with its progress. Raises: NotFound, Invalid."""
    async with context.reading() as uow:
        return await _shown(uow, await find_version(uow, project, dataset, version))


async def list_versions(project: str, dataset: str, page: PageQuery, context: ServiceContext) -> Page[VersionView]:
    """Return a page of a data set's versions. Raises: NotFound, Invalid."""
    async with context.reading() as uow:
        owner = await uow.datasets.get(project, dataset)
        result = await uow.versions.list(project, page, dataset_id=owner.id)
        work = await uow.work_of([item.id for item in result.items])
    return Page(tuple(VersionView(item, work.get(item.id)) for item in result.items), result.next_page_token)


@retry_conflicts
async def publish_version(
    project: str, dataset: str, version: str, request: tuple[str, str], context: ServiceContext, now: datetime
) -> VersionView:
    """Publish a READY version; a published one is returned as it is.

    Args:
        request: request id and digest.

    Raises: NotFound; WrongState: it is still importing, or failed.
    """
    async with context.writing() as uow:
        before = await find_version(uow, project, dataset, version)
        await uow.claim_request(project, "PublishDatasetVersion", *request, before.id)
        if before.state is State.PUBLISHED:
            return await _shown(uow, before)
        after = before.apply(PUBLISH, now, cause="Published on request.")
        await uow.versions.save(after)
        uow.emit(version_event(after, before))
        view = await _shown(uow, after)
        await uow.commit()
    context.watchers.notify(after.id, view)
    return view


@retry_conflicts
async def delete_version(project: str, dataset: str, version: str, context: ServiceContext, now: datetime) -> None:
    """Remove a version, also one that is importing. Raises: NotFound; WrongState: something holds it."""
    async with context.writing() as uow:
        result = await find_version(uow, project, dataset, version)
        ref = f"{result.dataset_name}@{result.number}"
        refuse_held("dataset version", ref, await uow.holds.holders([result.id], context.oldest_hold(now)))
        await uow.delete_version(result)
        await uow.discard(context.sources.bucket, context.version_prefix(result))
        uow.emit(version_event(result, result, "deleted"))
        await uow.commit()
    context.garbage.kick()
    context.watchers.notify(result.id)


async def watch_version(
    project: str, dataset: str, version: str, after_version: int, context: ServiceContext
) -> AsyncIterator[VersionView]:
    """Yield the version as it is, then each change and progress, up to a terminal state.

    Raises: NotFound: also when it is deleted meanwhile.
    """
    first = await get_version(project, dataset, version, context)

    async def read() -> VersionView:
        async with context.reading() as uow:
            return await _shown(uow, await uow.versions.get(project, first.resource.id))

    changes = context.watchers.follow(
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
    project: str, dataset: str, version: str, page_size: int, page_token: str, context: ServiceContext
) -> RowErrors:
    """Return a page of the refused rows. Raises: NotFound, Invalid."""
    size = check_page_size(page_size, 50, 1000)
    offset = read_offset(page_token)
    async with context.reading() as uow:
        result = await find_version(uow, project, dataset, version)
        rows = await uow.row_errors(result.id, offset, size + 1)
    token = offset_token(rows[size].position) if len(rows) > size else ""
    return RowErrors(rows[:size], token, result.bad_row_count)


async def preview_version(
    project: str, dataset: str, version: str, page_size: int, page_token: str, context: ServiceContext
) -> tuple[list[PreviewRow], str]:
    """Return parsed rows and the token of the next page. Raises: NotFound, Invalid; WrongState: no rows."""
    size = check_page_size(page_size, 10, 100)
    offset = read_offset(page_token)
    async with context.reading() as uow:
        result = await find_version(uow, project, dataset, version)
    if result.output is None:
        allowed = [State.READY.name, State.PUBLISHED.name]
        ref = f"{result.dataset_name}@{result.number}"
        raise WrongState.of("dataset version", ref, "preview", result.state.name, allowed)
    rows = await read_rows(context.sources.system, result.output, offset, size)
    more = offset + len(rows) < result.output.row_count
    return rows, offset_token(offset + len(rows)) if more and rows else ""
