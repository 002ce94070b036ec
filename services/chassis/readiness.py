"""What a part of a process lacks: the two lists of readiness.

A part may have `cannot_answer()` (without this no call can be answered: the database, the schema) and `degraded()`
(calls are answered, and something behind them stands still: NATS, the store, a loop). Each lack says since when.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from services.chassis.clock import now


@dataclass(frozen=True)
class Lack:
    """Something that is not there: a short name (`nats`, `database`), why, and since when."""

    name: str
    message: str
    since: datetime


@runtime_checkable
class CanStopAnswering(Protocol):
    """A part without which the process may be unable to answer."""

    def cannot_answer(self) -> Sequence[Lack]:
        """Return what is lacking so that no call can be answered."""


@runtime_checkable
class CanDegrade(Protocol):
    """A part that may stand still while calls are answered."""

    def degraded(self) -> Sequence[Lack]:
        """Return what is lacking while calls are still answered."""


class LackLog:
    """Remember since when each thing is lacking."""

    def __init__(self) -> None:
        self._lacks: dict[str, Lack] = {}

    def note(self, name: str, message: str) -> bool:
        """Record that something is lacking. Returns whether that is news: a new lack, or a new message."""
        before = self._lacks.get(name)
        self._lacks[name] = Lack(name, message, before.since if before else now())
        return before is None or before.message != message

    def clear(self, name: str) -> bool:
        """Record that something is there again. Returns whether it was lacking."""
        return self._lacks.pop(name, None) is not None

    def has(self, name: str) -> bool:
        """Return whether something is lacking now."""
        return name in self._lacks

    def all(self) -> list[Lack]:
        """Return what is lacking now."""
        return list(self._lacks.values())
