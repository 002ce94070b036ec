"""EventService: the project's events, paged and streamed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from modelry.events.v1 import events_pb2, events_pb2_grpc
from services.access.operations import events
from services.chassis.auth import current
from services.chassis.bus import Bus
from services.chassis.data import PageQuery
from services.chassis.proto_values import timestamp_of


class EventService(events_pb2_grpc.EventServiceServicer):
    """Every event is read from the bus; access keeps none."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def ListEvents(self, request: events_pb2.ListEventsRequest, call: Any) -> events_pb2.ListEventsResponse:
        limit = PageQuery.of(request).limit
        page = await events.list_events(self._bus, _query(request), limit, request.page_token)
        shown = [_message(stored) for stored in page.items]
        return events_pb2.ListEventsResponse(events=shown, next_page_token=page.next_page_token)

    async def WatchEvents(self, request: events_pb2.WatchEventsRequest, call: Any) -> AsyncIterator[events_pb2.Event]:
        """Yield the events after a cursor, as they come. Once the headers are sent, nothing is missed."""
        start = await events.start_of_watch(self._bus, request.after)
        await call.send_initial_metadata(())
        async with aclosing(events.watch_events(self._bus, _query(request), start)) as stream:
            async for stored in stream:
                yield _message(stored)


def _query(request: Any) -> events.Query:
    return events.Query(current().project, request.resource, request.id, request.happening)


def _message(stored: events.Stored) -> events_pb2.Event:
    event = stored.event
    data = events_pb2.ResourceChanged(
        id=event.resource_id,
        state=event.state,
        previous_state=event.previous_state,
        version=event.version,
        cause=event.cause,
        links=dict(event.links),
    )
    return events_pb2.Event(
        id=event.id,
        type=f"modelry.{event.resource}.{event.happening}",
        resource=event.resource,
        resource_id=event.resource_id,
        happening=event.happening,
        create_time=timestamp_of(event.time),
        data=data,
        sequence=stored.sequence,
    )
