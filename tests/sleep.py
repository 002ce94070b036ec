"""A sleep of the machine, simulated: the monotonic clock stands while the wall clock jumps."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo

import pytest

from services.chassis import clock

HOUR = 3600.0
JUMPS = [HOUR, -HOUR]
"""The machine slept; its wall clock was set back."""


@contextmanager
def before_the_jump(seconds: float) -> Iterator[None]:
    """What happens inside happened before the wall clock jumped by so much; the monotonic clock knows of nothing."""
    wall = time.time

    class Earlier(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz or UTC) - timedelta(seconds=seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: wall() - seconds)
        patch.setattr(clock, "datetime", Earlier)
        yield
