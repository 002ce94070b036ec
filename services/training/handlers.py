"""Events in: a model that became ready (or failed) wakes the engine for the jobs that wait for it."""

from services.chassis.delivery import Message
from services.training.context import ServiceContext


class ModelHandlers:
    """Follows model versions."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def handle(self, message: Message) -> None:
        """Handle an event of a model version: wake the engine, which asks the registry. A repeat does no harm."""
        if message.event().happening in ("ready", "failed"):
            self._context.engine.kick()
