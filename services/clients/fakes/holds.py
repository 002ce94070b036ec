"""Holds of versions, as the fakes of their owners keep them."""

from __future__ import annotations


class Holds:
    """Which versions each holder holds, and which holders have confirmed."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], set[str]] = {}
        self.confirmed: set[str] = set()

    def take(self, project: str, holder: str, *version_ids: str) -> None:
        """Hold versions; nothing without a holder."""
        if holder:
            self.held.setdefault((project, holder), set()).update(version_ids)

    def confirm(self, project: str, holder: str) -> None:
        """Note that the holds of a holder last."""
        if (project, holder) in self.held:
            self.confirmed.add(holder)

    def release(self, project: str, holder: str) -> None:
        """Forget the holds of a holder."""
        self.held.pop((project, holder), None)

    def holders(self, version_id: str = "") -> list[str]:
        """Who holds a version; who holds any, without one."""
        return sorted(holder for (_, holder), held in self.held.items() if not version_id or version_id in held)
