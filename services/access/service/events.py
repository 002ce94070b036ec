"""EventService: the project's events, paged and streamed."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from modelry.events.v1 import events_pb2, events_pb2_grpc
from services.access.domain.event_names import refuse_unknown_names
from services.access.operations import events
from services.chassis.auth import current
from services.chassis.bus import Bus
from services.chassis.data import PageQuery
from services.chassis.proto_values import message_of, page_message
from services.chassis.rpc import opened


class EventService(events_pb2_grpc.EventServiceServicer):
    """Every event is read from the bus; access keeps none."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def ListEvents(self, request: events_pb2.ListEventsRequest, call: Any) -> events_pb2.ListEventsResponse:
        page = await events.list_events(self._bus, _query(request), PageQuery.of(request))
        return page_message(events_pb2.ListEventsResponse, page, _message)

    async def WatchEvents(self, request: events_pb2.WatchEventsRequest, call: Any) -> AsyncIterator[events_pb2.Event]:
        """Yield the events after a cursor, as they come. Once the headers are sent, nothing is missed."""
        query, start = _query(request), await events.start_of_watch(self._bus, request.after)
        await opened()
        async with aclosing(events.watch_events(self._bus, query, start)) as stream:
            async for stored in stream:
                yield _message(stored)


def _query(request: Any) -> events.Query:
    refuse_unknown_names(request.resource, request.happening)
    return events.Query(current().project, request.resource, request.id, request.happening)


def _message(stored: events.Stored) -> events_pb2.Event:
    event = stored.event
    data = message_of(events_pb2.ResourceChanged, event, id=event.resource_id)
    kind = f"modelry.{event.resource}.{event.happening}"
    return message_of(events_pb2.Event, event, type=kind, create_time=event.time, data=data, sequence=stored.sequence)
