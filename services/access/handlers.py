"""Events in: the ledger hears what happens to what a stage reserves for."""

from services.access.operations.billing import note_event
from services.access.operations.context import ServiceContext
from services.chassis.clock import now
from services.chassis.delivery import Message


async def handle(context: ServiceContext, message: Message) -> None:
    """Note an event of a resource that costs money. Raises: Malformed."""
    await note_event(message.event(), message.event_id, context, now())
