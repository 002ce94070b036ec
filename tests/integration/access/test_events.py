"""The project's events: pages, filters, streams, cursors that are too old, and a bus that goes away."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import grpc
import nats as nats_py
import pytest

from modelry.events.v1 import events_pb2
from modelry.events.v1.events_pb2_grpc import EventServiceStub
from services.access.domain.projects import DEFAULT_ID
from services.access.store import AccessUnit
from services.chassis.auth import Role
from services.chassis.data import UnitOfWork
from services.chassis.errors import Expired, Invalid, Unavailable, from_rpc_error
from services.chassis.events import Event

pytestmark = pytest.mark.integration


async def emit(house, *facts, project=DEFAULT_ID):
    """Events of jobs, and wait until the bus has them."""
    last = ""
    async with UnitOfWork(house.database) as uow:  # the jobs are another service's
        for job, happening in facts:
            event = Event(project, "job", job, happening, happening.upper(), version=1, links={"model": "mv-1"})
            uow.emit(event)
            last = event.id
        await uow.commit()
    for _ in range(200):
        async with AccessUnit(house.database, write=False) as uow:
            if not await uow.unsent([f"job/{job}" for job, _ in facts]):
                return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{last} was not sent")


async def page(house, project=DEFAULT_ID, **fields):
    request = events_pb2.ListEventsRequest(**{"resource": "job", **fields})
    return await house.events.ListEvents(request, metadata=house.key(project, Role.VIEWER))


def told(events):
    return [(event.resource_id, event.happening) for event in events]


async def test_events_are_paged_in_their_order(house):
    await emit(house, *((f"ftjob-{number}", "queued") for number in range(7)))
    seen, token = [], ""
    for expected in (3, 3, 1):
        answer = await page(house, page_size=3, page_token=token)
        assert len(answer.events) == expected
        seen += answer.events
        token = answer.next_page_token
    assert token == ""
    assert sorted(told(seen)) == [(f"ftjob-{number}", "queued") for number in range(7)]
    assert [event.sequence for event in seen] == sorted(event.sequence for event in seen)
    event = seen[0]
    assert event.type == "modelry.job.queued"
    assert (event.data.id, event.data.state, event.data.links["model"]) == (event.resource_id, "QUEUED", "mv-1")
    assert (await page(house, page_token=str(seen[-1].sequence))).events == []


async def consumers(house):
    """How many readers of events the server keeps in its memory."""
    return (await house.bus.now().js.stream_info("MODELRY_EVENTS")).state.consumer_count


async def test_nobody_who_read_events_leaves_a_consumer_behind(house):
    await emit(house, *((f"ftjob-{number}", "queued") for number in range(7)))
    before = await consumers(house)
    for token in ("", "3", "9" * 18):
        with suppress(Invalid):
            await page(house, page_size=3, page_token=token)
        assert await consumers(house) == before
    watch = await open_watch(house, after=-1)
    await read(watch, 1)
    watch.cancel()
    async with asyncio.timeout(10):
        while await consumers(house) > before:
            await asyncio.sleep(0.02)


async def received_by_a_page(house):
    """The fewest messages in five tries: other parts of the service use the same connection."""
    stats, fewest = house.bus.now().client.stats, 10**9
    for _ in range(5):
        before = stats["in_msgs"]
        assert len((await page(house, page_size=10)).events) == 10
        fewest = min(fewest, stats["in_msgs"] - before)
    return fewest


async def test_a_page_costs_the_same_however_many_events_follow(house):
    await emit(house, *((f"ftjob-{number}", "queued") for number in range(20)))
    few = await received_by_a_page(house)
    await emit(house, *((f"ftjob-{number}", "running") for number in range(1500)))
    assert 10 <= await received_by_a_page(house) <= few + 5


async def test_filters_choose_noun_resource_and_happening(house):
    await emit(house, ("ftjob-1", "queued"), ("ftjob-2", "queued"), ("ftjob-1", "running"))
    assert told((await page(house, id="ftjob-1")).events) == [("ftjob-1", "queued"), ("ftjob-1", "running")]
    assert told((await page(house, happening="running")).events) == [("ftjob-1", "running")]
    assert (await page(house, resource="evaluation")).events == []
    everything = (await page(house, resource="")).events
    assert {event.resource for event in everything} == {"project", "apiKey", "job"}


async def test_another_projects_events_are_not_shown(house):
    await emit(house, ("ftjob-1", "queued"))
    await emit(house, ("ftjob-2", "queued"), project="proj-2")
    assert told((await page(house, "proj-2")).events) == [("ftjob-2", "queued")]


@pytest.mark.parametrize("odd", ["*", ">", "ftjob-1.>", "a b"])
async def test_a_filter_is_a_name_and_never_a_wildcard(house, odd):
    await emit(house, ("ftjob-1", "queued"))
    assert (await page(house, id=odd)).events == []


async def test_a_cursor_older_than_what_is_kept_has_expired(house, nats):
    await emit(house, *((f"ftjob-{number}", "queued") for number in range(5)))
    cursor = (await page(house, page_size=1)).next_page_token
    client = await nats_py.connect(nats.url, user="services", password=nats.passwords["services"])
    await client.jetstream().purge_stream("MODELRY_EVENTS")
    await client.close()
    with pytest.raises(Expired) as caught:
        await page(house, page_token=cursor)
    assert caught.value.reason == "EVENTS_EXPIRED"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await read(await open_watch(house, after=int(cursor)), 1)
    assert refused.value.code() is grpc.StatusCode.OUT_OF_RANGE
    assert (await page(house)).events == []


@pytest.mark.parametrize("token", ["x", "-1", "1.5", "9" * 18])
async def test_a_cursor_that_is_none_is_refused(house, token):
    await emit(house, ("ftjob-1", "queued"))
    with pytest.raises(Invalid) as caught:
        await page(house, page_token=token)
    assert caught.value.field == "page_token"


async def test_a_watch_refuses_by_name_what_it_would_wait_for_in_vain(house):
    await emit(house, ("ftjob-1", "queued"))
    for wrong, field in (
        ({"after": 10**9}, "after"),
        ({"resource": "jobs"}, "resource"),
        ({"happening": "x"}, "happening"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await read(await open_watch(house, **wrong), 1)
        error = from_rpc_error(refused.value)
        assert isinstance(error, Invalid) and error.field == field


async def open_watch(house, **fields):
    """A watch that nothing is missed by from now on."""
    request = events_pb2.WatchEventsRequest(**{"resource": "job", **fields})
    watch = EventServiceStub(house.plain).WatchEvents(request, metadata=house.key(role=Role.VIEWER))
    await watch.initial_metadata()
    return watch


async def read(watch, count):
    return [await asyncio.wait_for(watch.read(), 15) for _ in range(count)]


async def test_a_watch_shows_what_comes_from_now_on(house):
    await emit(house, ("ftjob-1", "queued"))
    watch = await open_watch(house)
    await emit(house, ("ftjob-1", "running"), ("ftjob-1", "succeeded"))
    assert told(await read(watch, 2)) == [("ftjob-1", "running"), ("ftjob-1", "succeeded")]
    watch.cancel()


async def test_a_watch_goes_on_after_a_cursor_or_from_the_oldest(house):
    await emit(house, ("ftjob-1", "queued"), ("ftjob-1", "running"))
    oldest = await open_watch(house, after=-1)
    first, second = await read(oldest, 2)
    assert told([first, second]) == [("ftjob-1", "queued"), ("ftjob-1", "running")]
    later = await open_watch(house, after=first.sequence)
    assert told(await read(later, 1)) == [("ftjob-1", "running")]
    oldest.cancel()
    later.cancel()


async def test_a_watch_lives_through_a_restart_of_nats_without_gap_or_repeat(house, nats):
    watch = await open_watch(house)
    await emit(house, ("ftjob-1", "queued"))
    assert told(await read(watch, 1)) == [("ftjob-1", "queued")]
    nats.restart()
    await emit(house, ("ftjob-1", "running"), ("ftjob-1", "succeeded"))
    assert told(await read(watch, 2)) == [("ftjob-1", "running"), ("ftjob-1", "succeeded")]
    watch.cancel()


async def test_a_long_history_is_watched_whole(house):
    await emit(house, *((f"ftjob-{number}", "queued") for number in range(1500)))
    watch = await open_watch(house, after=-1)
    events = await read(watch, 1500)
    assert len({event.resource_id for event in events}) == 1500
    assert [event.sequence for event in events] == sorted(event.sequence for event in events)
    watch.cancel()


async def test_without_nats_events_are_unavailable(house, nats):
    nats.stop()
    for _ in range(100):
        if not house.bus.connected:
            break
        await asyncio.sleep(0.05)
    with pytest.raises(Unavailable):
        await page(house)
    nats.start()
