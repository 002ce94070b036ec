"""Events in: what happens to jobs, evaluations and deployments, for the money set aside for them."""

from __future__ import annotations

from services.access.operations.billing import note_event
from services.access.operations.context import ServiceContext
from services.chassis.bus import Bus
from services.chassis.clock import now
from services.chassis.delivery import Consumer, Message
from services.chassis.settings import Settings


def consumers(bus: Bus, context: ServiceContext, settings: Settings) -> list[Consumer]:
    """Return the durable consumers of access: one for each kind of resource that costs money."""

    async def handle(message: Message) -> None:
        await note_event(message.event(), message.event_id, context, now())

    return [
        Consumer(bus, context.database, f"access-on-{resource}", f"modelry.events.*.{resource}.>", handle, settings)
        for resource in ("job", "evaluation", "deployment")
    ]
