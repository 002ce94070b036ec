"""What fakes have in common: outages, things known by project and reference, and holds of versions."""

from typing import TypeVar

from services.chassis.errors import NotFound, Unavailable

T = TypeVar("T")


class Outages:
    """Answers Unavailable to the methods that are named in `away`."""

    def __init__(self) -> None:
        self.away: set[str] = set()

    def _ask(self, method: str) -> None:
        if method in self.away:
            raise Unavailable(f"{type(self).__name__} does not answer to {method} now.")


def find(known: dict[tuple[str, str], T], project: str, reference: str, noun: str) -> T:
    """Return what a project, or every project (""), knows by a reference. Raises: NotFound."""
    found = known.get((project, reference)) or known.get(("", reference))
    if found is None:
        raise NotFound.of(noun, reference)
    return found


class Holds:
    """Which versions each holder holds, and which holders have confirmed."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], set[str]] = {}
        self.confirmed: set[str] = set()

    def take(self, project: str, holder: str, *version_ids: str) -> None:
        """Hold versions; nothing without a holder."""
        if holder:
            self.held.setdefault((project, holder), set()).update(version_ids)

    def holders(self, version_id: str = "") -> list[str]:
        """Who holds a version; who holds any, without one."""
        return sorted(holder for (_, holder), held in self.held.items() if not version_id or version_id in held)


class HoldOwner(Outages):
    """A service whose versions are held."""

    def __init__(self) -> None:
        super().__init__()
        self.holds = Holds()

    async def confirm_hold(self, project: str, holder: str) -> None:
        """Make the holds of a holder lasting."""
        self._ask("confirm_hold")
        if (project, holder) in self.holds.held:
            self.holds.confirmed.add(holder)

    async def release_hold(self, project: str, holder: str) -> None:
        """Let go of everything that a holder holds."""
        self._ask("release_hold")
        self.holds.held.pop((project, holder), None)
