"""Events of model versions: a published adapter joins the deployments of its base, a deleted one leaves them."""

from services.chassis.clock import now
from services.chassis.delivery import Message
from services.serving.operations import adapters
from services.serving.operations.context import ServiceContext

BASE_LINK = "base_model_version"


class VersionHandlers:
    """Follows model versions. Putting on and taking off again changes nothing, so a repeat needs no inbox."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def handle(self, message: Message) -> None:
        """Handle an event of a model version. Raises: Malformed, Unavailable."""
        event = message.event()
        if event.happening == "deleted":
            await adapters.detach_version(event.resource_id, self._context, now())
        elif event.state == "READY":
            base = event.links.get(BASE_LINK, "")
            if base:
                await adapters.attach_version(event.project, event.resource_id, base, self._context, now())
            self._context.wake.set()
