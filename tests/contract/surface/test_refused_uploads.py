"""Uploads that are refused before their end are refused in the service's own words, however the two meet."""

from __future__ import annotations

import asyncio
from collections import Counter

import aiohttp
import grpc
import pytest

from modelry.dataset.v1 import dataset_pb2 as pb
from modelry.dataset.v1 import dataset_pb2_grpc
from tests.stack import Stack

pytestmark = pytest.mark.contract

AT_ONCE, EACH = 8, 50
PURPOSE = "is no purpose"


async def test_a_refused_upload_over_http_says_why(stack: Stack) -> None:
    """Where the refusal met a part on its way, gRPC forgot it, and the answer was a 500."""
    told: Counter[tuple[int, bool]] = Counter()
    headers = {"Authorization": f"Bearer {stack.admin_key}"}
    async with aiohttp.ClientSession(stack.http, headers=headers) as session:

        async def upload() -> None:
            for size in range(1, EACH + 1):
                path = "/api/v1/files?filename=rows.jsonl&purpose=other"
                async with session.post(path, data=b'{"a": 1}\n' * size) as answer:
                    told[answer.status, PURPOSE in (await answer.json())["error"]["message"]] += 1

        await asyncio.gather(*(upload() for _ in range(AT_ONCE)))
    assert told == {(400, True): AT_ONCE * EACH}


async def test_a_refused_upload_over_grpc_says_why(stack: Stack) -> None:
    told: Counter[tuple[grpc.StatusCode, bool]] = Counter()
    metadata = (("authorization", f"Bearer {stack.admin_key}"),)
    async with grpc.aio.insecure_channel(stack.grpc) as channel:
        service = dataset_pb2_grpc.DatasetServiceStub(channel)
        # One part: gRPC's own client forgets a refusal that meets a later one, before the door could do anything.
        parts = [pb.UploadFileRequest(filename="rows.jsonl", purpose="other", data=b"{}")]

        async def upload() -> None:
            for _ in range(EACH):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await service.UploadFile(iter(parts), metadata=metadata)
                told[refused.value.code(), PURPOSE in str(refused.value.details())] += 1

        await asyncio.gather(*(upload() for _ in range(AT_ONCE)))
    assert told == {(grpc.StatusCode.INVALID_ARGUMENT, True): AT_ONCE * EACH}
