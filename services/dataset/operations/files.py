"""Uploaded files: take in, list, read, delete."""

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from services.chassis.data import Page, PageQuery
from services.chassis.errors import AlreadyExists, Invalid, NotFound
from services.chassis.holds import refuse_held
from services.chassis.ids import new_id
from services.chassis.objects import AsyncObjectStore
from services.chassis.rpc import opened
from services.dataset.domain import StoredFile, check_file, check_size
from services.dataset.object_sources import open_store
from services.dataset.operations.context import ServiceContext, file_event

_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Upload:
    """What the first message of an upload says."""

    project: str
    filename: str
    purpose: str
    request_id: str


async def upload_file(
    upload: Upload, chunks: AsyncIterator[bytes], folder: Path, context: ServiceContext, now: datetime
) -> StoredFile:
    """Receive a file: to a local file first (so that a broken upload leaves nothing), then to the store.

    Raises: Invalid: name, purpose, or no bytes. TooLarge: over a GiB. Unavailable: the store does not answer.
    """
    check_file(upload.filename, upload.purpose)
    await opened()
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = await asyncio.to_thread(tempfile.mkstemp, dir=folder)
    path = Path(name)
    try:
        size, sha256 = await _receive(chunks, handle)
        return await _keep(upload, path, size, sha256, context, now)
    finally:
        path.unlink(missing_ok=True)


async def _receive(chunks: AsyncIterator[bytes], handle: int) -> tuple[int, str]:
    """Write what comes and hash it."""
    digest = hashlib.sha256()
    size = 0
    with os.fdopen(handle, "wb") as target:
        async for chunk in chunks:
            size += len(chunk)
            check_size(size)
            await asyncio.to_thread(target.write, chunk)
            digest.update(chunk)
    if not size:
        raise Invalid("The file is empty (0 bytes).", field="data", reason="EMPTY_FILE")
    return size, digest.hexdigest()


async def _keep(
    upload: Upload, path: Path, size: int, sha256: str, context: ServiceContext, now: datetime
) -> StoredFile:
    content = "\n".join((upload.filename, upload.purpose, sha256))
    async with context.writing() as uow:
        digest = hashlib.sha256(content.encode()).hexdigest()
        file_id = await uow.claim_request(upload.project, "UploadFile", upload.request_id, digest, new_id("file-"))
        first = await uow.files.by_id(file_id)
        if first is not None:
            return first
        await uow.commit()
    file = StoredFile(file_id, upload.project, upload.filename, upload.purpose, size, sha256, now)
    store = AsyncObjectStore(open_store(context.sources.system))
    await store.upload_file(path, context.sources.bucket, context.file_key(file.project, file.id))
    try:
        async with context.writing() as uow:
            await uow.refuse_deleted(file.id)
            await uow.files.add(file)
            uow.emit(file_event(file, "created"))
            await uow.commit()
    except AlreadyExists:  # the same upload, at the same time
        return await get_file(upload.project, file_id, context)
    return file


async def get_file(project: str, ref: str, context: ServiceContext) -> StoredFile:
    """Return one file. Raises: NotFound."""
    async with context.reading() as uow:
        return await uow.files.get(project, ref)


async def list_files(project: str, page: PageQuery, context: ServiceContext) -> Page[StoredFile]:
    """Return a page of files. Raises: Invalid."""
    async with context.reading() as uow:
        return await uow.files.list(project, page)


async def delete_file(project: str, ref: str, context: ServiceContext) -> None:
    """Delete a file; its bytes go soon after. Raises: NotFound; WrongState: it is being imported."""
    async with context.writing() as uow:
        file = await uow.files.get(project, ref)
        refuse_held("file", file.id, await uow.importers_of_file(project, file.id))
        await uow.files.delete(file)
        await uow.discard(context.sources.bucket, context.file_key(project, file.id).rpartition("/")[0])
        uow.emit(file_event(file, "deleted"))
        await uow.commit()
    context.garbage.kick()


async def read_file(project: str, ref: str, context: ServiceContext) -> AsyncIterator[bytes]:
    """Yield the bytes of a file, piece by piece. Raises: NotFound, Unavailable."""
    file = await get_file(project, ref, context)
    store = open_store(context.sources.system)
    try:
        stream = await asyncio.to_thread(store.open_stream, context.sources.bucket, context.file_key(project, file.id))
    except NotFound as error:
        raise NotFound.of("file", ref) from error
    try:
        while piece := await asyncio.to_thread(stream.read, _READ_BYTES):
            yield piece
    finally:
        stream.close()
