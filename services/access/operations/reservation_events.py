"""What the events of jobs, evaluations and deployments say about the money set aside for them.

A stage confirms and settles by itself. This is for the stage that died between its own commit and that call: its
event is on the bus all the same.
"""

from __future__ import annotations

from datetime import datetime

from services.access.operations.context import ServiceContext
from services.chassis.events import Event

RESOURCES = ("job", "evaluation", "deployment")


async def note_event(event: Event, event_id: str, context: ServiceContext, now: datetime) -> None:
    """Confirm the reservation of what is alive. Of what has ended, note when: unsettled, the sweep frees it later."""
    async with context.writing() as uow:
        if not await uow.first_time(event_id):
            return
        reservation = await uow.reservations.find(event.project, event.resource_id)
        if reservation is not None and reservation.open:
            ended = event.terminal or event.happening == "deleted"
            changed = reservation.note_end(now) if ended else reservation.confirm(now)
            if changed is not reservation:
                await uow.reservations.save(changed)
        await uow.commit()
