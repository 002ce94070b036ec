"""What goes from a database to the bus and from the bus into a database, at least once and in order.

- `OutboxRelay` (relay.py) publishes what units of work emitted; nobody else publishes events.
- `Consumer` (consumer.py) brings events or work reports to a handler, with dead letters for what cannot be handled.

`ServiceHost` runs the relay of a service, and a consumer of each kind of resource whose events it handles:

    host.on_events(handle, "modelVersion")

A handler reads the event and calls a use case, which notes it in the inbox in the transaction that acts on it:

    async def handle(message: Message) -> None:          # handlers.py
        await note_end(message.event(), context)

    async def note_end(event: Event, context: ServiceContext) -> None:          # operations
        async with context.writing() as uow:
            if not await uow.first_time(event.id):
                return
            ...
            await uow.commit()
"""

from services.chassis.delivery.consumer import Consumer, Handler, Message
from services.chassis.delivery.relay import OutboxRelay

__all__ = ["Consumer", "Handler", "Message", "OutboxRelay"]
