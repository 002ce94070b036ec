"""What every figure of the bench is held against.

A floor is the ratio that stands today (with room for noise), or what an issue asked for once it is resolved; a goal
lies further out. A figure without a floor is shown beside the others so that they can be understood.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Floor:
    """A figure with the least (or, with `at_most`, the most) that it may be, and the goal."""

    figure: str
    limit: float
    goal: float | None = None
    at_most: bool = False

    def holds(self, measured: float) -> bool:
        """Whether the figure is on the right side of the floor."""
        return measured <= self.limit if self.at_most else measured >= self.limit


def least(figure: str, limit: float, goal: float | None = None) -> Floor:
    """A figure that must not fall below a limit."""
    return Floor(figure, limit, goal)


def most(figure: str, limit: float, goal: float | None = None) -> Floor:
    """A figure that must not rise above a limit."""
    return Floor(figure, limit, goal, at_most=True)


FLOORS: Mapping[str, tuple[Floor, ...]] = {
    "records": (
        least("reads/s, ratio to MLflow", 4.0),
        least("updates/s, ratio to MLflow", 5.0),
        least("creates/s, ratio to MLflow", 5.0),
        most("service CPU for one read, ms", 0.5),
        most("service CPU for one update, ms", 1.2),
        most("gateway CPU for one read, ms", 0.8),
        most("gateway CPU for one update, ms", 0.8),
        most("gateway CPU for one create, ms", 0.8),
    ),
    "gateway": (most("gateway CPU per request, ratio to a pass-through", 1.9, 1.4),),
    "startup": (
        most("idle stack ready, seconds", 10.0),
        most("idle stack resident, MB", 1200.0),
    ),
    "serving": (
        most("replica of a tiny model ready, seconds", 25.0),
        most("publish to first answer of an adapter, seconds", 5.0),
    ),
    "training": (least("real tokens/s, ratio to the Trainer", 1.7, 2.0),),
}
"""By part. A figure that its part did not measure counts as missed."""
