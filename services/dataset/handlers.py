"""Events of jobs and evaluations, which hold data set versions: they confirm a hold, and release it at their end."""

from services.chassis.delivery import Message
from services.chassis.holds import confirm_holds, release_holds
from services.dataset.operations.context import ServiceContext

USERS = ("job", "evaluation")
"""Resources that hold versions."""


class HoldHandlers:
    """Follow jobs and evaluations."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def handle(self, message: Message) -> None:
        """Handle one event of a job or an evaluation. Raises: Malformed."""
        event = message.event()
        if event.terminal or event.happening == "deleted":
            await release_holds(self._context.writing(), event.project, event.resource_id, event.id)
        else:
            await confirm_holds(self._context.writing(), event.project, event.resource_id, event.id)
