"""Changes of state and failures, as every domain has them. Pure: domains import it."""

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Generic, TypeVar

from services.chassis.errors import WrongState

S = TypeVar("S", bound=Enum)


class FailureKind(StrEnum):
    """Whose doing a failure is: the caller's input (USER) or the installation's (SYSTEM)."""

    USER = "USER"
    SYSTEM = "SYSTEM"


@dataclass(frozen=True)
class Failure:
    """Why something failed: a stable reason in CAPITALS, a sentence for people, and whose doing it is."""

    reason: str
    message: str
    kind: FailureKind = FailureKind.SYSTEM


@dataclass(frozen=True)
class Transition(Generic[S]):
    """One allowed change of state: from any of `sources` to `target`. The entity's `apply` performs it."""

    name: str
    sources: frozenset[S]
    target: S

    def check(self, state: S, kind: str, ref: str, reason: str = "") -> None:
        """Refuse a state that is none of the sources; `kind` and `ref` say of what. Raises: WrongState."""
        if state not in self.sources:
            allowed = [source.name for source in self.sources]
            raise WrongState.of(kind, ref, self.name, state.name, allowed, reason)
