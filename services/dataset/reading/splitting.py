"""Cut a source into the bytes of its rows, without parsing them: constant memory, exact places."""

import re
from collections.abc import Iterator

from services.dataset.reading.layout import STRING, match_brackets
from services.dataset.reading.problems import FileRefused, quote
from services.dataset.reading.source import CHUNK_BYTES, ByteSource

MAX_ROW_BYTES = 16 << 20
"""Longest row that is read; a longer one is no sample for any model."""

_SPACE = re.compile(rb"[ \t\r\n]*")
_CONTINUATION = bytes(range(0x80, 0xC0))
_SCALAR = re.compile(STRING + rb'|[^\s,\[\]{}"]+', re.DOTALL)

Piece = tuple[int, bytes | None]
"""The row's line or index and its bytes; None instead of the bytes of a row that is too long."""


class LineSplitter:
    """Rows of JSON Lines. Numbers are physical lines from 1; blank lines count and give nothing."""

    def __init__(self, source: ByteSource, max_row_bytes: int = MAX_ROW_BYTES) -> None:
        self._source = source
        self._max = max_row_bytes

    def pieces(self) -> Iterator[Piece]:
        """Yield each line that is not blank."""
        number = 1
        carry: list[bytes] = []
        held = 0
        for chunk in self._source.chunks():
            lines = chunk.split(b"\n")
            last = lines.pop()
            for line in lines:
                if carry:
                    line = self._join(carry, held, line)
                    carry, held = [], 0
                if len(line) > self._max or (stripped := line.strip()):
                    yield number, None if len(line) > self._max else stripped
                number += 1
            if held <= self._max:
                carry.append(last)
            held += len(last)
        line = self._join(carry, held, b"")
        if held > self._max or (stripped := line.strip()):
            yield number, None if held > self._max else stripped

    def _join(self, carry: list[bytes], held: int, line: bytes) -> bytes:
        """Return the whole line; of one that is already too long only the part that says so."""
        return b"".join(carry) if held > self._max else b"".join(carry) + line


class ArraySplitter:
    """Elements of one top-level JSON array, numbered from 0; or, with `single`, one top-level value."""

    def __init__(self, source: ByteSource, max_row_bytes: int = MAX_ROW_BYTES, *, single: bool = False) -> None:
        self._chunks = source.chunks()
        self._max = max_row_bytes
        self._single = single
        self._buffer = b""
        self._at = 0
        self._row_start = 0
        self._lines_before = 0
        self._column_before = 0
        self._ended = False

    def pieces(self) -> Iterator[Piece]:
        """Yield each element. Raises: FileRefused: INVALID_JSON with line and column, or ROW_TOO_LONG."""
        if not self._single:
            self._next_char()
            self._at += 1
            if self._next_char() == b"]":
                self._at += 1
                self._finish()
                return
        index = 0
        while True:
            piece = self._element(index)
            yield index, piece
            if self._single or not self._comma(index):
                break
            index += 1
        self._finish()

    def place(self, position: int) -> tuple[int, int]:
        """Return line and column, from 1, of a byte of the row that was yielded last."""
        return self._place(self._row_start + position)

    def _element(self, index: int) -> bytes:
        char = self._next_char()
        self._row_start = self._at
        if char in (b"{", b"["):
            end = self._closing(index)
        elif char in (b"", b",", b"]", b"}", b":"):
            raise self._no_value(index, char)
        else:
            end = self._scalar(index)
        piece = self._buffer[self._at : end]
        self._at = end
        return piece

    def _closing(self, index: int) -> int:
        while (end := match_brackets(self._buffer, self._at)) < 0:
            self._grow(index)
        self._limit(index, end - self._at)
        return end

    def _scalar(self, index: int) -> int:
        while True:
            match = _SCALAR.match(self._buffer, self._at)
            if match and match.end() < len(self._buffer):
                self._limit(index, match.end() - self._at)
                return match.end()
            self._grow(index)

    def _grow(self, index: int) -> None:
        """Read more bytes for an element that does not end in the buffer; doubling keeps rescans linear."""
        held = len(self._buffer) - self._at
        self._limit(index, held)
        if not self._read(max(held, 1)):
            line, column = self._place(self._row_start)
            raise FileRefused(
                "INVALID_JSON",
                f"The source ends in the middle of row {index}, which starts at line {line} column {column}: "
                "a bracket or a quote is not closed, or the file is cut off.",
                line=line,
                column=column,
            )

    def _limit(self, index: int, size: int) -> None:
        if size > self._max:
            line, _ = self._place(self._row_start)
            raise FileRefused(
                "ROW_TOO_LONG", f"Row {index} (line {line}) is longer than {self._max} bytes, the limit for one row."
            )

    def _comma(self, index: int) -> bool:
        char = self._next_char()
        if char == b"]":
            self._at += 1
            return False
        if char == b",":
            self._at += 1
            return True
        if char == b"":
            raise self._broken(f"the source ends after row {index} without the closing ']'")
        raise self._broken(f"expected ',' or ']' after row {index}, found {self._show(char)}")

    def _no_value(self, index: int, char: bytes) -> FileRefused:
        if char == b"":
            return self._broken(f"the source ends where row {index} should be")
        if char == b"]" and index:
            line, _ = self._place(self._buffer.rfind(b",", 0, self._at))
            return self._broken(f"expected a value after the comma on line {line}, found ']'")
        return self._broken(f"expected row {index}, found {self._show(char)}")

    def _finish(self) -> None:
        char = self._next_char()
        if not char:
            return
        if self._single:
            raise self._broken(
                f"more follows the first object ({self._show(char)}): write a list, or one object per line (JSON Lines)"
            )
        raise self._broken(f"the array has ended, but {self._show(char)} follows")

    def _next_char(self) -> bytes:
        """Return the next byte that is no white space, not taken; empty at the end of the source."""
        while True:
            match = _SPACE.match(self._buffer, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._buffer):
                return self._buffer[self._at : self._at + 1]
            if not self._read(1):
                return b""

    def _read(self, wanted: int) -> bool:
        """Drop what was taken and append at least `wanted` bytes, or all that is left."""
        parts: list[bytes] = []
        got = 0
        while got < wanted and not self._ended:
            chunk = next(self._chunks, b"")
            self._ended = not chunk
            parts.append(chunk)
            got += len(chunk)
        if got == 0:
            return False
        # The comma before a row stays, so that a message can name its line.
        keep = max(0, min(self._at, len(self._buffer)) - CHUNK_BYTES // 1024)
        self._forget(keep)
        self._buffer = b"".join([self._buffer[keep:], *parts])
        self._at -= keep
        self._row_start -= keep
        return True

    def _forget(self, size: int) -> None:
        newlines = self._buffer.count(b"\n", 0, size)
        start = self._buffer.rfind(b"\n", 0, size) + 1
        width = _characters(self._buffer[start:size])
        self._column_before = width if newlines else self._column_before + width
        self._lines_before += newlines

    def _place(self, position: int) -> tuple[int, int]:
        position = max(position, 0)
        newlines = self._buffer.count(b"\n", 0, position)
        start = self._buffer.rfind(b"\n", 0, position) + 1
        before = 0 if newlines else self._column_before
        return self._lines_before + newlines + 1, before + _characters(self._buffer[start:position]) + 1

    def _broken(self, message: str) -> FileRefused:
        line, column = self._place(self._at)
        return FileRefused(
            "INVALID_JSON", f"Invalid JSON at line {line} column {column}: {message}.", line=line, column=column
        )

    def _show(self, char: bytes) -> str:
        rest = self._buffer[self._at : self._at + 20].decode("utf-8", "ignore")
        return quote(rest.split("\n")[0] or char.decode("latin-1"))


def _characters(part: bytes) -> int:
    """Count the characters of UTF-8 bytes, which may begin or end inside one: all bytes that continue no other."""
    return len(part.translate(None, _CONTINUATION))
