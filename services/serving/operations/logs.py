"""The log of a replica, line by line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from services.chassis.launch import Launcher, ProbeState
from services.chassis.telemetry import mask
from services.serving.operations.context import ServiceContext
from services.serving.operations.deployments import get_replica

_PIECE_BYTES = 65536
_FOLLOW_SECONDS = 0.3
_LONGEST = 16_384


async def read_logs(
    project: str, ref: str, replica_id: str, follow: bool, launcher: Launcher, context: ServiceContext
) -> AsyncIterator[str]:
    """Yield lines, oldest first, secrets masked; with `follow` until the replica ends. Raises: NotFound."""
    replica = await get_replica(project, ref, replica_id, context)
    offset, rest, running = 0, "", True
    while True:
        chunk = await launcher.logs(replica.id, offset, _PIECE_BYTES)
        *lines, rest = (rest + chunk.text).split("\n")
        for line in lines:
            yield mask(line[:_LONGEST])
        if chunk.next_offset > offset:
            offset = chunk.next_offset
            continue
        if not follow or not running:
            break
        # Read once more after it was seen ended: its last words may have come in between.
        running = (await launcher.probe(replica.id)).state is ProbeState.RUNNING
        if running:
            await asyncio.sleep(_FOLLOW_SECONDS)
    if rest:
        yield mask(rest[:_LONGEST])
