"""How much of a program's time, memory and output somebody's chat template may take."""

import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RENDER_SECONDS = 10.0
"""One conversation; a real template takes less than a millisecond."""
MOST_CHARACTERS = 64 << 20
MORE_BYTES = 1 << 30
"""What all conversations that are tried at first may fill."""


class OutOfBounds(ValueError):
    """A template takes too much; the message says of what."""


@contextmanager
def in_time(seconds: float | None = None) -> Iterator[None]:
    """Raise OutOfBounds in the work that lasts longer. Beside the main thread nothing can: it is left alone there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    longest = RENDER_SECONDS if seconds is None else seconds

    def end(_number: int, _frame: object) -> None:
        raise OutOfBounds(f"the chat template takes longer than {longest:g} s for one conversation")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, longest)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def in_memory(more_bytes: int = MORE_BYTES) -> Iterator[None]:
    """Raise OutOfBounds in the work that fills so much more memory than is filled now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    filled = int(Path("/proc/self/statm").read_text("ascii").split()[5]) * resource.getpagesize()
    wanted = filled + more_bytes
    if any(limit != resource.RLIM_INFINITY and limit < wanted for limit in (soft, hard)):
        wanted = soft
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    try:
        yield
    except MemoryError:
        raise OutOfBounds(f"the chat template fills more than {more_bytes >> 20} MiB of memory") from None
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def check_length(text: str) -> str:
    """Return a rendered text. Raises: OutOfBounds: it is too long for any model."""
    if len(text) > MOST_CHARACTERS:
        raise OutOfBounds(f"the chat template writes {len(text):,} characters for one conversation")
    return text
