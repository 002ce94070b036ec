"""The bounds of each connection at the HTTP door: how slow its client may be, and how many of them there may be.

Nothing is timed for each call: all connections are looked at once a second. What the HTTP server itself refuses (bytes
that are no HTTP, a target that no route takes) gets our envelope here too, and no line in the log.
"""

import asyncio
import fcntl
import json
import termios
from array import array
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web

from gateway import errors
from gateway.addresses import FORWARDED, Places, TrustedProxies, address_of_socket
from gateway.body import HANDLER_ARGUMENTS
from gateway.context import ADDRESS, new_request_id
from services.chassis.background import BackgroundLoop
from services.chassis.errors import Invalid, ModelryError, NotFound, OverLimit, TooSlow, Unavailable

GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class Bounds:
    """How long the door waits for a client.

    Attributes:
        head_seconds: for the head of a request, from its first byte, or of the first one from the opening.
        idle_seconds: between two requests.
        body_seconds, write_seconds: for `least_rate` bytes a second of a body, or of an answer that the client takes.
    """

    head_seconds: float = 10.0
    idle_seconds: float = 75.0
    body_seconds: float = 20.0
    write_seconds: float = 30.0
    least_rate: float = 500.0
    look_seconds: float = 1.0


class Pace:
    """Whether something gets on: so many bytes in each stretch of time."""

    def __init__(self, seconds: float, rate: float) -> None:
        self._seconds, self._least = seconds, seconds * rate
        self._since, self._from = 0.0, 0

    def is_slow(self, now: float, position: int | None) -> bool:
        """Return whether it is too slow. `position` is how far it is; None: nobody waits for it now."""
        if position is None:
            self._since = 0.0
            return False
        got_on = now - self._since >= self._seconds and position - self._from >= self._least
        if not self._since or position < self._from or got_on:
            self._since, self._from = now, position
        return now - self._since >= self._seconds


class Connection(web.RequestHandler):
    """One connection; it knows what it waits for."""

    def __init__(self, door: "DoorServer", **arguments: Any) -> None:
        super().__init__(door, **arguments)
        self._door = door
        self._wire: asyncio.Transport | None = None  # the server lets go of its own before all is sent
        self._request: web.BaseRequest | None = None
        self._until, self._head_comes = 0.0, False  # when the next request must be there, and whether it has begun
        self._received = 0
        bounds = door.bounds
        self._reading = Pace(bounds.body_seconds, bounds.least_rate)
        self._writing = Pace(bounds.write_seconds, bounds.least_rate)
        self.address, self.trusted = "", False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, if there is room."""
        wire = cast(asyncio.Transport, transport)
        self.address = address_of_socket(wire.get_extra_info("peername"))
        self.trusted = self._door.proxies.trust(self.address)
        try:
            self._door.take(self)
        except (OverLimit, Unavailable) as error:
            self.force_close()
            _answer_and_close(wire, error)
            return
        self._wire, self._until = wire, self._door.in_seconds(self._door.bounds.head_seconds)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        if self._wire is not None:
            self._wire = None
            self._door.give(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client."""
        self._received += len(data)
        if self._request is None and data and not self._head_comes:
            self._until, self._head_comes = self._door.in_seconds(self._door.bounds.head_seconds), True
        super().data_received(data)

    def begin(self, request: web.BaseRequest) -> None:
        """Note that a request has a handler."""
        self._request, self._head_comes = request, False

    async def finish_response(self, *arguments: Any) -> Any:
        """Send an answer; then the next request may begin."""
        try:
            return await super().finish_response(*arguments)
        finally:
            self._request, self._until = None, self._door.in_seconds(self._door.bounds.idle_seconds)

    def look(self, now: float) -> None:
        """End what the client lets wait for too long."""
        if self._wire is None:
            return
        if self._writing.is_slow(now, self._taken(self._wire)):
            self._wire.abort()
        elif self._request is not None:
            content = self._request.content
            wanted = not content.is_eof() and content.exception() is None and self._wire.is_reading()
            if self._reading.is_slow(now, self._received if wanted else None):
                content.set_exception(TooSlow("The body came too slowly; send it again."))
        elif now >= self._until:
            if self._head_comes and self.transport is not None:
                _answer_and_close(self._wire, TooSlow("The head of the request came too slowly.", reason="SLOW_HEAD"))
            self.force_close()

    def _taken(self, wire: asyncio.Transport) -> int | None:
        """Return how much of an answer the client has taken, if somebody waits for it to take more."""
        unsent = wire.get_write_buffer_size()
        if not unsent or not (self.writing_paused or self._request is None):
            return None
        written = self._request.writer.output_size if self._request is not None else 0
        return written - unsent - _kernel_holds(wire)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP."""
        if status != HTTPStatus.BAD_REQUEST:
            return super().handle_error(request, status, exc, message)
        words = (message or "").partition("\n")[0].rstrip(": ")[:200]
        response = errors.respond(Invalid(f"The request is not valid HTTP: {words}.", reason="NOT_HTTP"), request)
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log what is no client's doing."""
        if not isinstance(kw.get("exc_info"), TooSlow):
            super().log_exception(*args, **kw)


class DoorServer(web.Server):
    """All connections of the door."""

    def __init__(self, made: web.Server, bounds: Bounds, places: Places, proxies: TrustedProxies) -> None:
        """Args: made: the server of the application, whose place this takes."""
        super().__init__(self._answer, request_factory=made.request_factory, handler_cancellation=True)
        self.bounds, self.proxies, self._places, self._handle = bounds, proxies, places, made.request_handler
        self._clock, self._looked = 0.0, self._loop.time()
        self.looking = BackgroundLoop("slow clients", self._look, bounds.look_seconds)

    def __call__(self) -> Connection:
        """Make a connection's protocol."""
        return Connection(self, loop=self._loop, access_log=None, **HANDLER_ARGUMENTS)

    def take(self, connection: Connection) -> None:
        """Count a connection. Raises: OverLimit, Unavailable."""
        self._places.open()
        if not connection.trusted:
            try:
                self._places.take(connection.address)
            except OverLimit:
                self._places.close()
                raise

    def give(self, connection: Connection) -> None:
        """Count one less."""
        self._places.close()
        if not connection.trusted:
            self._places.give(connection.address)

    def in_seconds(self, seconds: float) -> float:
        """Return a moment on the clock of the looks, that long from now or a look later."""
        return self._clock + self.bounds.look_seconds + seconds

    async def _look(self) -> None:
        """Look at all connections. While this process stands still nobody is slow: that counts as two looks at most."""
        now = self._loop.time()
        self._clock += min(now - self._looked, 2 * self.bounds.look_seconds)
        self._looked = now
        for connection in self.connections:
            cast(Connection, connection).look(self._clock)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast(Connection, request.protocol)
        connection.begin(request)
        try:
            if connection.trusted:
                return await self._answer_proxied(request, connection.address)
            request[ADDRESS] = connection.address
            return await self._handle(request)
        except web.HTTPException as error:
            return errors.respond(_named(error, request), request)
        except ModelryError as error:
            return errors.respond(error, request)

    async def _answer_proxied(self, request: web.BaseRequest, proxy: str) -> web.StreamResponse:
        """Answer a request of a trusted proxy, which holds a place of its caller for as long as that takes."""
        request[ADDRESS] = address = self.proxies.client_of(proxy, request.headers.getall(FORWARDED, ()))
        self._places.take(address)
        try:
            return await self._handle(request)
        finally:
            self._places.give(address)


class DoorRunner(web.AppRunner):
    """Serves the application with bounded connections."""

    def __init__(self, app: web.Application, bounds: Bounds, places: Places, proxies: TrustedProxies) -> None:
        super().__init__(app, handler_cancellation=True, shutdown_timeout=GRACE_SECONDS)
        self._parts = bounds, places, proxies
        self._door: DoorServer | None = None

    async def _make_server(self) -> web.Server:
        self._door = DoorServer(await super()._make_server(), *self._parts)
        await self._door.looking.start()
        return self._door

    async def _cleanup_server(self) -> None:
        if self._door is not None:
            await self._door.looking.stop()
        await super()._cleanup_server()


def _kernel_holds(wire: asyncio.Transport) -> int:
    """Return how many bytes the kernel still has to bring to the client: it takes more only in large steps."""
    answer = array("i", [0])
    with suppress(OSError, ValueError):  # it is closed, or the system cannot tell
        fcntl.ioctl(wire.get_extra_info("socket").fileno(), termios.TIOCOUTQ, answer)
    return answer[0]


def _named(error: web.HTTPException, request: web.BaseRequest) -> ModelryError:
    """Return what the server says of a request that none of our routes takes."""
    if request.method == "CONNECT":
        return NotFound("CONNECT is not possible: this is no proxy.", reason="UNKNOWN_URL")
    return NotFound(f"There is no {request.path or '/'}: {error.reason}.", reason="UNKNOWN_URL")


def _answer_and_close(wire: asyncio.Transport, error: ModelryError) -> None:
    """Refuse a connection that has no request, in bytes of our own."""
    answer = errors.wrap(error, "/", new_request_id())
    body = json.dumps(answer.body).encode()
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        "x-request-id": answer.body["error"]["request_id"],
        **errors.OWN_HEADERS,
        **answer.headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    wire.write(f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n{head}\r\n".encode() + body)
    wire.close()
