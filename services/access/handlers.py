"""Events in: what happens to jobs, evaluations and deployments, for the money set aside for them."""

from __future__ import annotations

from services.access.operations.context import ServiceContext
from services.access.operations.reservation_events import note_event
from services.chassis.clock import now
from services.chassis.delivery import Handler, Message


def handler(context: ServiceContext) -> Handler:
    """Return the handler of what happens to each kind of resource that costs money."""

    async def handle(message: Message) -> None:
        await note_event(message.event(), message.event_id, context, now())

    return handle
