"""What all fakes have: questions that are not answered for a while."""

from __future__ import annotations

from services.chassis.errors import Unavailable


class Outages:
    """Answers Unavailable to the methods that are named in `away`."""

    def __init__(self) -> None:
        self.away: set[str] = set()

    def _ask(self, method: str) -> None:
        if method in self.away:
            raise Unavailable(f"{type(self).__name__} does not answer to {method} now.")
