"""The connection to NATS: made in the background, without limit, and made anew whenever it is lost.

The library's own reconnection is switched off: it gives up for good after a while, blocks the first connect while the
server is away, and sends later what a caller was told had failed. Here each connection is a `Session`; when it ends,
everything in flight on it fails at once, and whoever needs the bus waits for the next one.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from nats.aio.msg import Msg
from nats.js.api import PubAck, StreamConfig
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError

from services.chassis.bus.session import Session, open_session, retry_delay
from services.chassis.bus.streams import LEAST_BYTES, NO_SPACE, differ, stream_configs
from services.chassis.clock import now
from services.chassis.errors import Unavailable
from services.chassis.readiness import Lack
from services.chassis.settings import Settings
from services.chassis.tasks import end_tasks

_log = logging.getLogger(__name__)


class Bus:
    """A process's connection to NATS. `connected` says whether there is one now; `session()` waits for it.

    `replays` are those of its consumers, by the name of their durable: a dead letter goes back to its own.
    """

    def __init__(self, settings: Settings, *, streams: bool = True, inbox_prefix: str = "_INBOX") -> None:
        """Args:
        streams: False for a process that may not make streams: one that only reads KV (the gateway), a worker.
        inbox_prefix: where replies arrive, if this user may listen nowhere else.
        """
        self._settings, self._streams, self._inbox_prefix = settings, streams, inbox_prefix
        self._session: Session | None = None
        self._ready = asyncio.Event()
        self._number = 0
        self._problem = "not connected yet"
        self._away_since = now()
        self._task: asyncio.Task[None] | None = None
        self.replays: dict[str, Callable[[Any], Awaitable[Any]]] = {}
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
        while not self.connected:
            self._ready.clear()
            await self._ready.wait()
        return self.now()

    async def on_each(self, use: Callable[[Session], Awaitable[None]], name: str, longest_seconds: float = 1.0) -> None:
        """Use each connection until it is lost, for ever. What fails is logged, and begins anew after a growing delay.

        Args:
            name: what the use is, for the log.
            longest_seconds: the longest delay; a use that went well for longer begins again with the shortest.
        """
        tries, problem = 0, ""
        while True:
            session, began = await self.session(), time.monotonic()
            try:
                await use(session)
            except Exception as error:  # an edge: the use is made anew, nothing is forgotten meanwhile
                tries = 1 if time.monotonic() - began > longest_seconds else tries + 1
                known = isinstance(error, (Unavailable, APIError, NoStreamResponseError))
                if not (known and (session.closed.is_set() or str(error) == problem)):
                    _log.warning("%s begins anew: %s", name, error, exc_info=not known)
                problem = str(error)
            if not session.closed.is_set():
                await asyncio.sleep(retry_delay(tries, 0.05, longest_seconds))

    def now(self) -> Session:
        """Return the current connection. Raises: Unavailable: there is none."""
        if self._session is None or not self.connected:
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
            inbox_prefix=self._inbox_prefix,
        )
        try:
            if self._streams:
                await self.ensure_streams(session)
            for subject, callback in self._listeners:
                await self._subscribe(session, subject, callback)
        except BaseException:
            await self._end(session)
            raise
        self._number += 1
        return session

    async def _end(self, session: Session) -> None:
        with suppress(Exception):  # it is being thrown away
            await asyncio.wait_for(session.client.close(), timeout=2)
        session.closed.set()

    async def ensure_streams(self, session: Session | None = None) -> None:
        """Make the streams, or bring their settings up to date. Done by itself at each connect."""
        session = session or self.now()
        for config in stream_configs(self._settings):
            try:
                info = await session.call(session.js.stream_info(str(config.name)))
            except NotFoundError:
                await self._make_stream(session, config)
            else:
                if differ(info.config, config):
                    await session.call(session.js.update_stream(config))

    async def _make_stream(self, session: Session, config: StreamConfig) -> None:
        """Make a stream, with fewer bytes where the server has not that many to give."""
        while True:
            try:
                await session.call(session.js.add_stream(config))
                return
            except APIError as error:
                size = config.max_bytes or 0
                if error.err_code != NO_SPACE or size < LEAST_BYTES:
                    raise
                config.max_bytes = size // 2
                _log.warning("NATS has no room for %d bytes of %s; trying half of it", size, config.name)
