"""Places at replicas, and the line of a key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.admission import MOST_WAITING, Admission, Claim
from services.chassis.errors import OverLimit
from services.clients.records import ReplicaRecord

pytestmark = pytest.mark.unit

ONE = [ReplicaRecord("rep-1", "127.0.0.1:1")]


def claim(sequences: int = 4, key: str = "key-1", replicas: list[ReplicaRecord] = ONE) -> Claim:
    return Claim("dep-1", key, sequences, 4, "", lambda: replicas)


@asynccontextmanager
async def held(admission: Admission, wanted: Claim) -> AsyncIterator[str]:
    """A place. Gives: where."""
    replica = await admission.place(wanted)
    try:
        yield replica.id if replica is not None else "nowhere"
    finally:
        if replica is not None:
            admission.give_back(wanted, replica)


async def visit(admission: Admission, wanted: Claim) -> str:
    """Hold a place for a moment. Returns: where."""
    async with held(admission, wanted) as place:
        return place


async def test_a_line_has_a_longest_length_and_every_key_its_own() -> None:
    admission = Admission(60)
    async with held(admission, claim()):
        line = [asyncio.create_task(visit(admission, claim())) for _ in range(MOST_WAITING)]
        await asyncio.sleep(0)
        assert admission.waiting == MOST_WAITING
        with pytest.raises(OverLimit):
            await visit(admission, claim())
        assert await visit(admission, claim(key="key-2")) == "rep-1"
    assert set(await asyncio.gather(*line)) == {"rep-1"}
    assert (admission.waiting, admission.in_flight.total()) == (0, 0)


async def test_who_waits_sees_the_replicas_that_there_are_by_then() -> None:
    admission, replicas = Admission(60), list(ONE)
    async with held(admission, claim(replicas=replicas)):
        waiting = [asyncio.create_task(visit(admission, claim(replicas=replicas))) for _ in range(2)]
        await asyncio.sleep(0)
        replicas[:] = [ReplicaRecord("rep-2", "127.0.0.1:2")]
    assert await asyncio.gather(*waiting) == ["rep-2", "rep-2"]
    replicas.clear()
    assert await visit(admission, claim(replicas=replicas)) == "nowhere"


async def test_a_replica_that_was_tried_is_not_given_again() -> None:
    admission, wanted = Admission(60), claim()
    assert [await visit(admission, wanted) for _ in range(2)] == ["rep-1", "nowhere"]
