"""Events in: a model that became ready (or failed) wakes the engine for the jobs that wait for it."""

from __future__ import annotations

from services.chassis.bus import Bus
from services.chassis.delivery import Consumer, ConsumerSettings, Message
from services.training.context import ServiceContext


def model_consumer(context: ServiceContext, bus: Bus, settings: ConsumerSettings) -> Consumer:
    """Return the durable consumer of model versions."""

    async def handle(message: Message) -> None:
        """Wake the engine, which asks the registry. A repeat does no harm."""
        if message.event().happening in ("ready", "failed"):
            context.engine.kick()

    subject = "modelry.events.*.modelVersion.>"
    return Consumer(bus, context.database, "training-on-modelVersion", subject, handle, settings)
