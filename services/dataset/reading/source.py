"""The source as a stream of bytes: read once, hashed and checked to be UTF-8 on the way."""

import codecs
import hashlib
from collections.abc import Iterator
from typing import Protocol

from services.dataset.reading.problems import FileRefused

CHUNK_BYTES = 1 << 20
_GUESS_BYTES = 1 << 16


class Readable(Protocol):
    """Anything with a blocking `read(size)`: a file, an S3 body."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; empty at the end."""


class ByteSource:
    """Chunks of a source. `sha256` and `size_bytes` cover all of it once the last chunk was taken."""

    def __init__(self, stream: Readable, name: str = "", chunk_bytes: int = CHUNK_BYTES) -> None:
        self.name = name
        self.size_bytes = 0
        self.byte_order_mark = False
        self.complete = False
        self._stream = stream
        self._chunk_bytes = chunk_bytes
        self._hash = hashlib.sha256()
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._head: bytes | None = None

    @property
    def sha256(self) -> str:
        """Digest of everything, or empty while something is unread."""
        return self._hash.hexdigest() if self.complete else ""

    def head(self) -> bytes:
        """Return the first chunk (without a byte-order mark), not taken off and not yet checked to be UTF-8."""
        if self._head is None:
            raw = self._fill(max(self._chunk_bytes, 4))
            self._hash.update(raw)
            self.size_bytes += len(raw)
            self.byte_order_mark = raw.startswith(codecs.BOM_UTF8)
            self._head = raw[3:] if self.byte_order_mark else raw
        return self._head

    def chunks(self) -> Iterator[bytes]:
        """Yield all of the source, chunk by chunk.

        Raises: FileRefused: NOT_UTF8, with the offset of the first wrong byte and a guess at the encoding.
        """
        chunk = self.head()
        offset = self.size_bytes - len(chunk)
        while chunk:
            self._check(chunk, offset)
            offset += len(chunk)
            yield chunk
            chunk = self._fill(self._chunk_bytes)
            self._hash.update(chunk)
            self.size_bytes += len(chunk)
        self._check(b"", offset, final=True)
        self.complete = True

    def _fill(self, missing: int) -> bytes:
        """Return a whole chunk: network bodies may return less than was asked for."""
        parts: list[bytes] = []
        while missing > 0 and (part := self._stream.read(missing)):
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _check(self, chunk: bytes, offset: int, *, final: bool = False) -> None:
        pending = self._decoder.getstate()[0]
        try:
            self._decoder.decode(chunk, final)
        except UnicodeDecodeError as error:
            where = offset - len(pending) + error.start
            known = pending + chunk
            words = "it ends in the middle of a character: the file was cut off"
            if not final:
                words = _guess(known[: error.start + _GUESS_BYTES], known[: error.start].isascii())
            raise FileRefused(
                "NOT_UTF8", f"The source is not valid UTF-8: wrong byte at offset {where}; {words}."
            ) from error


def _guess(window: bytes, ascii_before: bool) -> str:
    """Return what the bytes look like, and the command that cures it. After good UTF-8 it is no other encoding."""
    if window[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or window[1:2] == b"\0":
        return "it looks like UTF-16; convert it with: iconv -f UTF-16 -t UTF-8"
    try:
        text = codecs.getincrementaldecoder("gb18030")().decode(window)
    except UnicodeDecodeError:
        return "save it as UTF-8 and import it again"
    if ascii_before and any("\u4e00" <= char <= "\u9fff" for char in text):
        return "it looks like GBK/GB18030; convert it with: iconv -f GB18030 -t UTF-8"
    return "save it as UTF-8 and import it again"
