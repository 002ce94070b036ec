"""Events of those who use models: they confirm and release holds, and become part of the lineage."""

from services.chassis.delivery import Message
from services.chassis.events import Event
from services.registry.domain import Link
from services.registry.operations.context import ServiceContext

USERS = ("job", "evaluation", "deployment")
"""Resources that hold versions."""

LINKED = ("evaluation", "deployment")
"""Resources that stand in the lineage of a version which they use."""


async def handle(context: ServiceContext, message: Message) -> None:
    """Handle one event of a user of models. Raises: Malformed."""
    event = message.event()
    async with context.writing() as uow:
        if not await uow.first_time(event.id, "users"):
            return
        if event.terminal or event.happening == "deleted":
            await uow.holds.release(event.project, event.resource_id)
        else:
            await uow.holds.confirm(event.project, event.resource_id)
        for link in _links(event):
            await uow.add_link(link)
        await uow.commit()


def _links(event: Event) -> list[Link]:
    if event.resource not in LINKED:
        return []
    versions = {value for value in event.links.values() if value.startswith("mv-")}
    return [Link(version, event.resource_id, event.project, event.resource) for version in sorted(versions)]
