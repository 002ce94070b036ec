"""Wall time, for showing. Durations are taken from monotonic clocks by whoever does the work."""

from datetime import UTC, datetime


def now() -> datetime:
    """Return this moment in UTC, aware, with microseconds."""
    return datetime.now(UTC)
