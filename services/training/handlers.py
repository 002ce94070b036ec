"""Events in: a model that became ready (or failed) makes the engine look at once at the jobs that wait for it."""

from __future__ import annotations

from services.chassis.bus import Bus
from services.chassis.delivery import Consumer, ConsumerSettings, Message
from services.training.context import ServiceContext


class ModelHandlers:
    """Follows model versions."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def handle(self, message: Message) -> None:
        """One event of a model version. It only wakes the engine, which asks the registry; a repeat does no harm."""
        if message.event().happening in ("ready", "failed"):
            self._context.engine.kick()

    def consumers(self, bus: Bus, settings: ConsumerSettings) -> list[Consumer]:
        """The durable consumers of this service."""
        subject = "modelry.events.*.modelVersion.>"
        return [Consumer(bus, self._context.database, "training-on-modelVersion", subject, self.handle, settings)]
