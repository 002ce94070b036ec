"""Uploaded files: byte for byte, once, and usable as a source."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from modelry.dataset.v1 import dataset_pb2 as pb
from services.chassis.errors import AlreadyExists, Invalid, NotFound, WrongState, from_rpc_error
from tests.integration.dataset.world import OTHER, World

pytestmark = pytest.mark.integration


async def upload(world: World, data: bytes, **fields: Any) -> pb.File:
    fields.setdefault("filename", "train.jsonl")

    async def requests() -> AsyncIterator[pb.UploadFileRequest]:
        yield pb.UploadFileRequest(**fields)
        for start in range(0, len(data), 1 << 20):
            yield pb.UploadFileRequest(data=data[start : start + (1 << 20)])

    try:
        return await world.stub.UploadFile(requests(), metadata=world.service.metadata())
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


async def read(world: World, file_id: str) -> bytes:
    stream = world.stub.ReadFile(pb.ReadFileRequest(file=file_id), metadata=world.service.metadata())
    return b"".join([part.data async for part in stream])


async def test_a_file_comes_back_byte_for_byte(world: World) -> None:
    data = os.urandom(5_000_001)
    file = await upload(world, data, purpose="user_data")
    assert (file.size_bytes, file.sha256, file.purpose) == (len(data), hashlib.sha256(data).hexdigest(), "user_data")
    assert await read(world, file.id) == data
    listed = await world.call("ListFiles", pb.ListFilesRequest(filter='purpose = "user_data"'))
    assert [item.id for item in listed.files] == [file.id]
    with pytest.raises(NotFound):
        await world.call("GetFile", pb.GetFileRequest(file=file.id), OTHER)
    await world.call("DeleteFile", pb.DeleteFileRequest(file=file.id))
    with pytest.raises(NotFound):
        await world.call("GetFile", pb.GetFileRequest(file=file.id))
    with pytest.raises(grpc.aio.AioRpcError):
        await read(world, file.id)


async def test_an_uploaded_file_is_imported(world: World) -> None:
    row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    file = await upload(world, json.dumps(row).encode(), purpose="fine-tune", filename="chat.jsonl")
    request = pb.CreateDatasetVersionRequest(
        dataset="chat", create_dataset=True, dataset_version=pb.DatasetVersion(file_id=file.id)
    )
    version = await world.settled(await world.call("CreateDatasetVersion", request))
    assert (version.state, version.row_count) == (pb.DatasetVersion.PUBLISHED, 1)
    assert version.file_id == file.id
    request.dataset_version.file_id = "file-absent"
    with pytest.raises(NotFound) as caught:
        await world.call("CreateDatasetVersion", request)
    assert caught.value.metadata["field"] == "dataset_version.file_id"


async def test_a_file_that_is_being_imported_is_not_deleted(world: World) -> None:
    row = json.dumps({"instruction": "a", "output": "b"}).encode() + b"\n"
    file = await upload(world, row * 200_000)
    request = pb.CreateDatasetVersionRequest(
        dataset="busy", create_dataset=True, dataset_version=pb.DatasetVersion(file_id=file.id)
    )
    version = await world.call("CreateDatasetVersion", request)
    with pytest.raises(WrongState) as caught:
        await world.call("DeleteFile", pb.DeleteFileRequest(file=file.id))
    assert "busy@1" in caught.value.message
    assert (await world.settled(version)).state == pb.DatasetVersion.PUBLISHED
    await world.call("DeleteFile", pb.DeleteFileRequest(file=file.id))


async def test_the_same_upload_twenty_times_makes_one_file(world: World) -> None:
    made = await asyncio.gather(*(upload(world, b"abc", request_id="u-1") for _ in range(20)))
    assert len({file.id for file in made}) == 1
    with pytest.raises(AlreadyExists):
        await upload(world, b"abd", request_id="u-1")


WRONG_UPLOADS = [
    ({"purpose": "fun"}, b"x", "purpose"),
    ({"filename": "a/b"}, b"x", "filename"),
    ({"filename": ""}, b"x", "filename"),
    ({}, b"", "data"),
]


async def test_a_wrong_upload_names_its_field_and_leaves_nothing(world: World) -> None:
    for fields, data, field in WRONG_UPLOADS:
        with pytest.raises(Invalid) as caught:
            await upload(world, data, **fields)
        assert caught.value.field == field
    listed = await world.call("ListFiles", pb.ListFilesRequest())
    assert not listed.files
    assert not list((world.service.home / "work" / "uploads").glob("*"))
