"""The connection to NATS: made in the background, without limit, and made anew whenever it is lost.

The library's own reconnection is switched off: it gives up for good after a while, blocks the first connect while the
server is away, and sends later what a caller was told had failed. Here each connection is a `Session`; when it ends,
everything in flight on it fails at once, and whoever needs the bus waits for the next one.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import PubAck, StreamConfig
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError

from services.chassis.bus.streams import LEAST_BYTES, NO_SPACE, differ, stream_configs
from services.chassis.clock import now
from services.chassis.errors import Unavailable
from services.chassis.readiness import Lack
from services.chassis.settings import Settings
from services.chassis.tasks import end_tasks

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
        self.js: JetStreamContext = client.jetstream(timeout=5)

    async def call(self, request: Awaitable[T], timeout: float = 5.0) -> T:
        """Return the answer of a request on this connection.

        Raises: Unavailable: the connection was lost, or nobody answered in time. The server's own refusals
            (nats.js.errors.APIError) pass.
        """
        task = asyncio.ensure_future(request)
        closing = asyncio.ensure_future(self.closed.wait())
        try:
            await asyncio.wait((task, closing), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                word = "The connection to NATS was lost." if self.closed.is_set() else "NATS did not answer in time."
                raise Unavailable(word, reason="BUS_UNAVAILABLE")
            return task.result()
        except (APIError, NoStreamResponseError):
            raise
        except (NatsError, OSError, TimeoutError) as error:
            raise Unavailable(f"NATS: {error}.", reason="BUS_UNAVAILABLE") from error
        finally:
            closing.cancel()
            if not task.done():
                task.cancel()


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


class Replayer(Protocol):
    """What can handle a dead letter again."""

    async def replay(self, letter: Any) -> Any:
        """Handle it. Returns: the letter, marked as replayed."""
        ...


class Bus:
    """A process's connection to NATS. `connected` says whether there is one now; `session()` waits for it.

    `consumers` are those that hang on it, by the name of their durable: a dead letter goes back to its own.
    """

    def __init__(self, settings: Settings, *, streams: bool = True) -> None:
        """Args: streams: False for a process that only reads KV (the gateway) and may not make streams."""
        self._settings = settings
        self._streams = streams
        self._session: Session | None = None
        self._ready = asyncio.Event()
        self._number = 0
        self._problem = "not connected yet"
        self._away_since = now()
        self._task: asyncio.Task[None] | None = None
        self.consumers: dict[str, Replayer] = {}
        self._hooks: list[Callable[[], None]] = []
        self._listeners: list[tuple[str, Callable[[str, bytes], None]]] = []

    @property
    def connected(self) -> bool:
        """Whether there is a connection now, with its streams."""
        return self._session is not None and not self._session.closed.is_set()

    @property
    def generation(self) -> int:
        """How many connections there have been; it grows with each reconnect."""
        return self._number

    def degraded(self) -> list[Lack]:
        """Return why NATS is not there, if so."""
        return [] if self.connected else [Lack("nats", f"NATS is not reachable: {self._problem}.", self._away_since)]

    def on_connect(self, hook: Callable[[], None]) -> None:
        """Call a function after each connect. It must return at once."""
        self._hooks.append(hook)

    async def start(self) -> None:
        """Begin to connect, and return at once."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep(), name="bus")

    async def close(self) -> None:
        """Give the connection up."""
        task, self._task = self._task, None
        await end_tasks(task)
        if self._session is not None:
            await self._end(self._session)

    async def session(self) -> Session:
        """Wait for the current connection and return it."""
        while True:
            await self._ready.wait()
            if self._session is not None and not self._session.closed.is_set():
                return self._session
            self._ready.clear()

    def now(self) -> Session:
        """Return the current connection. Raises: Unavailable: there is none."""
        if self._session is None or self._session.closed.is_set():
            raise Unavailable(f"NATS is not reachable: {self._problem}.", reason="BUS_UNAVAILABLE")
        return self._session

    async def publish(self, subject: str, data: bytes, headers: dict[str, str] | None = None) -> PubAck:
        """Store a message in the stream of its subject. For the relay; stages emit events in a unit of work.

        Raises: Unavailable: there is no connection, or no acknowledgement came. It may be stored all the same.
            nats.js.errors.APIError: the stream refused it.
        """
        session = self.now()
        seconds = self._settings.publish_seconds
        publishing = session.js.publish(subject, data, timeout=seconds, headers=headers)
        try:
            return await session.call(publishing, seconds + 1)
        except NoStreamResponseError as error:
            if self._streams:  # somebody removed it while we were connected
                await self.ensure_streams(session)
            raise Unavailable(f"No stream takes {subject}.", reason="BUS_UNAVAILABLE") from error

    async def send(self, subject: str, data: bytes) -> None:
        """Send a message that is not stored (a heartbeat). Raises: Unavailable: there is no connection."""
        session = self.now()
        await session.call(session.client.publish(subject, data))

    async def listen(self, subject: str, callback: Callable[[str, bytes], None]) -> None:
        """Call a function with subject and data of each message that is not stored, on every connection from now on."""
        self._listeners.append((subject, callback))
        if self.connected:
            await self._subscribe(self.now(), subject, callback)

    async def _subscribe(self, session: Session, subject: str, callback: Callable[[str, bytes], None]) -> None:
        async def heard(message: Msg) -> None:
            callback(message.subject, message.data)

        await session.call(session.client.subscribe(subject, cb=heard))

    async def _keep(self) -> None:
        tries = 0
        while True:
            try:
                session = await self._connect()
            except Exception as error:  # an edge: whatever is wrong now may be right later
                tries += 1
                self._note(error)
                await asyncio.sleep(retry_delay(tries, 0.05, self._settings.reconnect_max_seconds))
                continue
            tries = 0
            self._session = session
            self._ready.set()
            _log.info("connected to NATS (connection %d)", session.number)
            for hook in self._hooks:
                hook()
            await session.closed.wait()
            self._ready.clear()
            self._problem, self._away_since = "the connection was lost", now()
            _log.warning("the connection to NATS was lost")

    def _note(self, error: Exception) -> None:
        problem = str(error) or type(error).__name__
        if problem != self._problem:
            _log.warning("NATS is not reachable: %s", problem)
        self._problem = problem

    async def _connect(self) -> Session:
        session = await open_session(
            self._settings.nats_url,
            f"modelry-{self._settings.service}",
            self._number + 1,
            user=self._settings.nats_user,
            password=self._settings.nats_password.get_secret_value(),
        )
        try:
            await self._prepare(session)
        except BaseException:
            await self._end(session)
            raise
        self._number += 1
        return session

    async def _prepare(self, session: Session) -> None:
        if self._streams:
            await self.ensure_streams(session)
        for subject, callback in self._listeners:
            await self._subscribe(session, subject, callback)

    async def _end(self, session: Session) -> None:
        with suppress(Exception):  # it is being thrown away
            await asyncio.wait_for(session.client.close(), timeout=2)
        session.closed.set()

    async def ensure_streams(self, session: Session | None = None) -> None:
        """Make the streams, or bring their settings up to date. Done by itself at each connect."""
        session = session or self.now()
        for config in stream_configs(self._settings):
            await self._ensure_stream(session, config)

    async def _ensure_stream(self, session: Session, config: StreamConfig) -> None:
        try:
            info = await session.call(session.js.stream_info(str(config.name)))
        except NotFoundError:
            await self._make_stream(session, config)
            return
        if differ(info.config, config):
            await session.call(session.js.update_stream(config))

    async def _make_stream(self, session: Session, config: StreamConfig) -> None:
        """Make a stream, with fewer bytes where the server has not that many to give."""
        while True:
            try:
                await session.call(session.js.add_stream(config))
            except APIError as error:
                size = config.max_bytes or 0
                if error.err_code != NO_SPACE or size < LEAST_BYTES:
                    raise
                config.max_bytes = size // 2
                _log.warning("NATS has no room for %d bytes of %s; trying half of it", size, config.name)
                continue
            return
