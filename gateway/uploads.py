"""The messages of an upload on their way to its service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc

from services.chassis.rpc import OPENED

STATUS_SECONDS, WRITE_FAILED = 2.0, "Internal error from Core"
"""How long the status of a call may take after gRPC said this of a write."""


async def send_all(messages: AsyncIterator[Any], call: Any) -> None:
    """Send all messages, or as many as the service takes; what the call ends with says the rest.

    Here, and not in gRPC, which would hide what is wrong with a client's messages. After the first one the service says
    that it goes on, or refuses: a write that meets the end of a call makes gRPC forget what it ended with.
    """
    taken = False
    async for message in messages:
        if call.done():
            return
        try:
            await call.write(message)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):  # refused while this was on its way
            with suppress(TimeoutError):
                async with asyncio.timeout(STATUS_SECONDS):
                    while await call.details() == WRITE_FAILED:
                        await asyncio.sleep(0.001)
            return
        if not taken and OPENED not in dict(await call.initial_metadata() or ()):
            return
        taken = True
    await call.done_writing()
