"""Events of those who use data sets: their first word confirms a hold, their last one lets it go."""

from __future__ import annotations

from services.chassis.bus import Bus, Consumer, ConsumerSettings, Message
from services.chassis.holds import confirm_holds, release_holds
from services.dataset.operations.context import Desk

USERS = ("job", "evaluation")
"""Resources that hold versions."""


class HoldHandlers:
    """Follows jobs and evaluations."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def handle(self, message: Message) -> None:
        """One event of a job or an evaluation.

        Raises: Malformed.
        """
        event = message.event()
        if event.terminal or event.happening == "deleted":
            await release_holds(self._desk.writing(), event.project, event.resource_id, event.id)
        else:
            await confirm_holds(self._desk.writing(), event.project, event.resource_id, event.id)

    def consumers(self, bus: Bus, settings: ConsumerSettings) -> list[Consumer]:
        """The durable consumers of this service."""
        return [
            Consumer(
                bus,
                self._desk.database,
                f"dataset-on-{resource}",
                f"modelry.events.*.{resource}.>",
                self.handle,
                settings,
            )
            for resource in USERS
        ]
