"""Object stores that do what no store does: each bucket's name says how its answers are wrong."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import parse_qs, urlsplit

from services.chassis.objects import StoreAccess

SECRET_WORDS = "what only an inner service knows"
_ENTRY = "<Contents><Key>{key}</Key><Size>1</Size><ETag>x</ETag></Contents>"
_PAGE = '<?xml version="1.0"?><ListBucketResult>{entries}<IsTruncated>{more}</IsTruncated>{token}</ListBucketResult>'


def page(*keys: str, more: str = "false", token: str = "") -> bytes:
    """Return a page of a list."""
    entries = "".join(_ENTRY.format(key=key) for key in keys)
    after = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    return _PAGE.format(entries=entries, more=more, token=after).encode()


class HostileStore(ThreadingHTTPServer):
    """Answers every request in the way of the bucket that it names; `asked` counts them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked = count()
        self.requests = 0
        self.ending, self.reading = threading.Event(), threading.Event()
        self.keys: tuple[str, ...] = ()
        self.target = ""
        self.hosts: list[str] = []

    @property
    def access(self) -> StoreAccess:
        """How to reach it."""
        return StoreAccess(f"http://127.0.0.1:{self.server_address[1]}", "a", "b")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave are what it is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HostileStore

    def do_GET(self) -> None:
        """Answer."""
        self.server.requests += 1
        host = urlsplit(self.path).hostname or ""
        self.server.hosts.append(host)
        inside = host.startswith("in-host.")
        kind = "keys" if inside else urlsplit(self.path).path.strip("/").split("/")[0]
        getattr(self, kind.replace("-", "_"))()

    do_HEAD = do_PUT = do_DELETE = do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _say(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _slowly(self, piece: bytes) -> None:
        while not self.server.ending.wait(0.2):
            self.wfile.write(piece)

    def trickle(self) -> None:
        """A byte now and then."""
        self.send_response(200)
        self.send_header("Content-Length", str(1 << 30))
        self.send_header("ETag", '"x"')
        self.end_headers()
        self._slowly(b" ")

    def slow_head(self) -> None:
        """Headers that never end."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        self._slowly(b"x")

    def silent(self) -> None:
        """Nothing at all."""
        self.server.ending.wait()

    def endless(self) -> None:
        """Pages without an end, and nothing on them."""
        self._say(page(more="true", token=f"t{next(self.server.asked)}"))

    def growing(self) -> None:
        """Pages without an end, all full."""
        number, prefix = next(self.server.asked), self._prefix()
        self._say(page(*(f"{prefix}{number:09}-{row:03}" for row in range(1000)), more="true", token=f"t{number}"))

    def huge(self) -> None:
        """One page without an end, as fast as it can."""
        self.send_response(200)
        self.send_header("Content-Length", str(1 << 40))
        self.end_headers()
        self.wfile.write(b"<ListBucketResult>")
        while not self.server.ending.is_set():
            self.wfile.write(b"<Contents><Key>k</Key></Contents>" * 10_000)

    def missing(self) -> None:
        """A page that does not say whether it is the last."""
        self._say(b"<ListBucketResult></ListBucketResult>")

    def no_key(self) -> None:
        """An entry without a key."""
        self._say(page().replace(b"<IsTruncated>", b"<Contents><Size>1</Size></Contents><IsTruncated>"))

    def text(self) -> None:
        """A size that is no number."""
        self._say(page("k").replace(b"<Size>1<", b"<Size>many<"))

    def deep(self) -> None:
        """No list at all."""
        self._say(b"<a>" * 10_000)

    def redirect(self) -> None:
        """Somewhere else, please."""
        self._say(b"", 307, Location=self.server.target)

    def words(self) -> None:
        """A refusal in its own words."""
        body = f"<Error><Code>{SECRET_WORDS}</Code><Message>{SECRET_WORDS}</Message></Error>".encode()
        self._say(body, 400)

    def elsewhere(self) -> None:
        """A bucket in another region."""
        if "/eu-test-7/s3/" in self.headers.get("Authorization", ""):
            self.keys()
        else:
            code = "<Code>AuthorizationHeaderMalformed</Code><Region>eu-test-7</Region>"
            self._say(f"<Error>{code}</Error>".encode(), 400)

    def in_host(self) -> None:
        """A bucket that may not be in the path."""
        self._say(b"<Error><Code>SecondLevelDomainForbidden</Code></Error>", 403)

    def keys(self) -> None:
        """A list of whatever keys a test wants; each object is one line."""
        if "list-type" in parse_qs(urlsplit(self.path).query):
            self._say(page(*self.server.keys))
        else:
            self._say(b"content\n", ETag='"x"', Last_Modified="Thu, 01 Jan 2026 00:00:00 GMT")

    def sluggish(self) -> None:
        """An ordinary list of an object that comes a byte now and then; `reading` says that somebody reads it."""
        if "list-type" in parse_qs(urlsplit(self.path).query):
            self._say(page(*self.server.keys).replace(b"<Size>1<", b"<Size>1073741824<"))
        else:
            self.server.reading.set()
            self.trickle()

    def _prefix(self) -> str:
        return parse_qs(urlsplit(self.path).query).get("prefix", [""])[0]


@contextlib.contextmanager
def hostile_store(context: ssl.SSLContext | None = None) -> Iterator[HostileStore]:
    """Run one."""
    server = HostileStore()
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ending.set()
        server.shutdown()
        server.server_close()
