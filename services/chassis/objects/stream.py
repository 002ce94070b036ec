"""Read a large object from front to back in constant memory, across broken connections."""

import io
import time
from typing import Any

from services.chassis.errors import Conflict, ModelryError, Unavailable
from services.chassis.objects.access import StoreAccess, translated

_TRIES_WITHOUT_PROGRESS = 6
# What is no better at the next try: the store had its time.
_NOT_AGAIN = ("STORE_TOO_SLOW", "STORE_MALFORMED")
_TRIES_TO_OPEN = 3
_LONGEST_DELAY_SECONDS = 4.0


class ObjectStream(io.RawIOBase):
    """One object as a file that can be read forwards.

    When the connection breaks it goes on with a ranged read at the place reached, as long as the object is the same
    (its etag is compared here: the embedded server ignores `If-Match`). Use it in one thread at a time.

    Attributes:
        size: length of the object in bytes.
        etag: its identity together with `size`, without quotes.
    """

    def __init__(self, client: Any, access: StoreAccess, bucket: str, key: str, offset: int = 0) -> None:
        """Open it. Raises: NotFound, Denied, Unavailable."""
        super().__init__()
        self._client, self._access, self._bucket, self._key = client, access, bucket, key
        self._position = offset
        self.size, self.etag = -1, ""
        self._body: Any = None
        self._first = b""
        for number in range(_TRIES_TO_OPEN):
            try:
                self._connect()
                return
            except OSError as error:
                self._pause(number + 1, error, _TRIES_TO_OPEN)

    def readable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the next byte's place in the object."""
        return self._position

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes (all that is left when negative); nothing at the end and only there.

        Raises: Unavailable: the store stayed away. Conflict: the object is another one now.
        """
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(1 << 20), b""))
        failures = 0
        while self._position < self.size and size > 0:
            try:
                return self._read_some(min(size, self.size - self._position))
            except (OSError, Unavailable) as error:
                failures += 1
                self._pause(failures, error, _TRIES_WITHOUT_PROGRESS)
        return b""

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer as far as the next piece goes."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Let the connection go."""
        self._drop()
        super().close()

    def _read_some(self, size: int) -> bytes:
        if self._body is None:
            self._connect()
        data: bytes = self._first
        if len(data) < size:
            with translated(self._access, self._bucket, self._key):
                data += self._body.read(size - len(data))
        if not data:
            raise ConnectionError("the object ended early")
        self._first = b""
        self._position += len(data)
        return data

    def _pause(self, failures: int, error: Exception, tries: int) -> None:
        self._drop()
        if isinstance(error, ModelryError) and error.reason in _NOT_AGAIN:
            raise error
        if failures >= tries:
            message = (
                f"Reading {self._bucket}/{self._key} broke at byte {self._position} of {self.size}, again and again."
            )
            raise Unavailable(message, reason="STORE_UNREACHABLE", retry_seconds=5) from error
        time.sleep(min(0.1 * 2**failures, _LONGEST_DELAY_SECONDS))

    def _drop(self) -> None:
        body, self._body, self._first = self._body, None, b""
        if body is not None:
            body.close()

    def _connect(self) -> None:
        """Open the object at the place reached. Raises OSError when the answer was cut short."""
        more = {"Range": f"bytes={self._position}-"} if self._position else {}
        with translated(self._access, self._bucket, self._key):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key, **more)
        self._body = answer["Body"]
        if "ContentLength" not in answer:
            raise ConnectionError("the answer ended within its headers")
        size, etag = int(answer["ContentLength"]) + self._position, str(answer.get("ETag", "")).strip('"')
        if size > self._position:
            # Headers cut off by a broken connection look whole to http.client, and an etag or a length may be half:
            # they count once a byte of the body has come after them.
            try:
                with translated(self._access, self._bucket, self._key):
                    self._first = self._body.read(1)
            except (OSError, Unavailable) as error:
                raise ConnectionError("the answer ended before its body") from error
            if not self._first:
                raise ConnectionError("the answer ended before its body")
        if self.size < 0:
            self.size, self.etag = size, etag
        elif (size, etag) != (self.size, self.etag):
            self._drop()
            message = f"{self._bucket}/{self._key} was replaced while it was read."
            raise Conflict(message, reason="OBJECT_CHANGED", metadata={"bucket": self._bucket, "key": self._key})
