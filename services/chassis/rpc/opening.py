"""How a stream says that it stands before its first message, which may be long in coming, and an upload that it may."""

from contextvars import ContextVar
from typing import Any

OPENED = "x-modelry-opened"
"""The header of a stream that nothing refuses any more."""

_stream: ContextVar[Any] = ContextVar("modelry_stream", default=None)


def enter(call: Any) -> None:
    """Make `opened` speak of this stream; the server's guard calls this once for each."""
    _stream.set(call)


async def opened() -> None:
    """Send the headers of the stream that is being answered; before its first message, once all refusals are behind.

    The second time, and outside of a stream, nothing happens.
    """
    call = _stream.get()
    if call is not None:
        _stream.set(None)
        await call.send_initial_metadata(((OPENED, "1"),))
