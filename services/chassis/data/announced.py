"""The rule that every event of a resource carries a higher version than the one before.

Readers drop what is not newer than what they have seen. A row's version grows with each write, so an event that carries
a version which its own unit of work wrote, and which no other event carries, is newer than all before it.
"""

from services.chassis.events import Event


class Announcements:
    """What one unit of work writes, and what it tells of that."""

    def __init__(self) -> None:
        self.kept = False
        """Whether the unit has repositories: one without them sends events of things that it does not keep."""
        self._written: set[tuple[str, int]] = set()
        self._told: list[Event] = []

    def clear(self) -> None:
        """Begin anew, with a new transaction."""
        self._written, self._told = set(), []

    def wrote(self, entity_id: str, version: int) -> None:
        """Note that an entity has this version from now on; a deleted one has one more than it had."""
        self._written.add((entity_id, version))

    def tell(self, event: Event) -> None:
        """Note that an event goes out with the unit."""
        self._told.append(event)

    def check(self) -> None:
        """Refuse a unit with an event whose version it did not write, or that another event carries: a mistake in code.

        Raises: RuntimeError
        """
        if not self.kept:
            return
        free = set(self._written)
        for event in self._told:
            told = (event.resource_id, event.version)
            if told not in free:
                raise RuntimeError(
                    f"{event.resource}.{event.happening} of {event.resource_id} carries version {event.version}, which "
                    "this unit did not write, or has told already: its readers would drop it"
                )
            free.remove(told)
