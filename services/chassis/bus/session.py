"""One connection to NATS, from its being ready until it is lost."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import APIError, NoStreamResponseError

from services.chassis.errors import Unavailable

_log = logging.getLogger(__name__)
T = TypeVar("T")


def retry_delay(tries: int, shortest: float, longest: float) -> float:
    """Return the seconds to wait after failed tries: doubling, a little random, so that many do not come at once."""
    delay: float = min(longest, shortest * 2.0 ** min(tries - 1, 30))
    return delay * random.uniform(0.8, 1.0)  # noqa: S311


class Session:
    """One connection, from its being ready until it is lost."""

    def __init__(self, client: Client, number: int, closed: asyncio.Event) -> None:
        self.client = client
        self.number = number
        self.closed = closed
        self._lost = asyncio.ensure_future(closed.wait())  # one for all calls, which wait for it beside their answers
        self.js: JetStreamContext = client.jetstream(timeout=5)

    async def call(self, request: Awaitable[T], timeout: float = 5.0) -> T:
        """Return the answer of a request on this connection.

        Raises: Unavailable: the connection was lost, or nobody answered in time. The server's own refusals
            (nats.js.errors.APIError) pass.
        """
        task = asyncio.ensure_future(request)
        try:
            await asyncio.wait((task, self._lost), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                word = "The connection to NATS was lost." if self.closed.is_set() else "NATS did not answer in time."
                raise Unavailable(word, reason="BUS_UNAVAILABLE")
            return task.result()
        except (APIError, NoStreamResponseError):
            raise
        except (NatsError, OSError, TimeoutError) as error:
            raise Unavailable(f"NATS: {error}.", reason="BUS_UNAVAILABLE") from error
        finally:
            if not task.done():
                task.cancel()

    @asynccontextmanager
    async def inbox(self) -> AsyncIterator[tuple[str, "asyncio.Queue[Msg]"]]:
        """Listen to a subject of its own: yields the subject, and what arrives on it."""
        subject, messages = self.client.new_inbox(), asyncio.Queue[Msg]()
        subscription = await self.call(self.client.subscribe(subject, cb=messages.put))
        try:
            yield subject, messages
        finally:
            if not self.closed.is_set():
                with suppress(Exception):  # the server forgets it with the connection
                    await self.call(subscription.unsubscribe(), timeout=1)


async def open_session(servers: str, name: str, number: int = 0, **login: Any) -> Session:
    """Connect once; the library never mends the connection. Raises: what the library raises, TimeoutError."""
    closed = asyncio.Event()

    async def on_closed() -> None:
        closed.set()

    async def on_error(error: Exception) -> None:
        _log.debug("nats: %s", error)

    connecting = nats.connect(
        servers=servers.split(","),
        name=name,
        allow_reconnect=False,
        connect_timeout=3,
        ping_interval=5,
        max_outstanding_pings=2,
        closed_cb=on_closed,
        error_cb=on_error,
        **login,
    )
    return Session(await asyncio.wait_for(connecting, timeout=5), number, closed)
