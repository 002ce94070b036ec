"""Events in: what happens to jobs, evaluations and deployments, for the money set aside for them."""

from __future__ import annotations

from collections.abc import Callable

from services.access.operations import AccessUnit
from services.access.operations.reservation_events import RESOURCES, note_event
from services.chassis.bus import Bus
from services.chassis.clock import now
from services.chassis.data import Database
from services.chassis.delivery import Consumer, ConsumerSettings, Message


def consumers(
    bus: Bus, database: Database, write: Callable[[], AccessUnit], settings: ConsumerSettings
) -> list[Consumer]:
    """The durable consumers of access: one for each kind of resource that costs money."""

    async def handle(message: Message) -> None:
        await note_event(message.event(), message.event_id, write(), now())

    return [
        Consumer(bus, database, f"access-on-{resource}", f"modelry.events.*.{resource}.>", handle, settings)
        for resource in RESOURCES
    ]
