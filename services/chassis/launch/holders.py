"""Who holds what somebody waits for, in words: what would free it, and nothing of other projects. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

_SHOWN = 5


@dataclass(frozen=True)
class Holder:
    """One program that holds slots.

    Attributes:
        what: what it is to people, such as `job ftjob-7`; empty when nobody said.
        project: whose it is.
        since: when it was started.
        ends: it ends by itself; else it runs until its deployment is scaled down or deleted.
    """

    what: str
    project: str
    since: datetime
    ends: bool


def holders_text(holders: Sequence[Holder], project: str) -> str:
    """Return who holds slots and until when, to somebody of a project; empty when nobody does."""
    own = [holder for holder in holders if holder.project == project and holder.what]
    parts = [_words(holder) for holder in own[:_SHOWN]]
    if len(own) > _SHOWN:
        parts.append(f"by {len(own) - _SHOWN} more of this project")
    if others := len(holders) - len(own):
        parts.append(f"by {others} program{'s' if others > 1 else ''} of other projects")
    if not parts:
        return ""
    listed = "; ".join(parts[:-1])
    return f"Held {listed}; and {parts[-1]}." if listed else f"Held {parts[-1]}."


def _words(holder: Holder) -> str:
    until = "it ends" if holder.ends else "its deployment is scaled down or deleted"
    return f"by {holder.what} since {holder.since:%Y-%m-%d %H:%M} UTC, until {until}"
