"""How the rows lie in the source: a JSON array, JSON Lines, one object; and what is clearly none of them."""

import re
from enum import Enum

from services.dataset.reading.problems import FileRefused, quote
from services.dataset.reading.source import ByteSource

_MAGIC = (
    (b"\x1f\x8b", "gzip", "gunzip"),
    (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
    (b"BZh", "bzip2", "bunzip2"),
    (b"\xfd7zXZ\0", "xz", "unxz"),
    (b"PK\x03\x04", "zip", "unzip"),
)
_HTML = re.compile(rb"<(!doctype html|html|head|body|\?xml|!--)", re.IGNORECASE)
_LINE_NAMES = (".jsonl", ".ndjson", ".jsonlines")
_TABLE_NAMES = (".csv", ".tsv", ".xlsx", ".xls")

# A string is matched possessively: no backtracking, so neither time nor memory explodes on a long or broken one.
STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
SKIP = re.compile(rb'[^"{}\[\]]*+(?:' + STRING + rb'[^"{}\[\]]*+)*+', re.DOTALL)
"""Everything up to the next bracket that is not inside a string."""


class Layout(Enum):
    """Where one row ends and the next begins."""

    ARRAY = "json array"
    LINES = "JSON Lines"
    OBJECT = "one JSON object"


def detect_layout(source: ByteSource) -> Layout:
    """Return the layout, from the first bytes.

    Raises: FileRefused: EMPTY_FILE, COMPRESSED, NOT_JSON (HTML, a table, plain text), and FORMAT_NOT_SUPPORTED.
    """
    head = source.head()
    _refuse_binary(head)
    start = head.lstrip(b" \t\r\n")
    if not start:
        if len(head) == 0:
            raise FileRefused("EMPTY_FILE", "The source is empty (0 bytes): there are no rows.")
        raise FileRefused("EMPTY_FILE", "The source holds only white space: there are no rows.")
    if start[:1] == b"[":
        return Layout.ARRAY
    if start[:1] != b"{":
        raise _neither(source, start)
    return Layout.LINES if _lines(start, source.name.lower()) else Layout.OBJECT


def _refuse_binary(head: bytes) -> None:
    for magic, name, command in _MAGIC:
        if head.startswith(magic):
            raise FileRefused(
                "COMPRESSED",
                f"The source is compressed ({name}): compressed imports come later; unpack it with `{command}` first.",
            )
    if head.startswith(b"PAR1"):
        raise FileRefused("FORMAT_NOT_SUPPORTED", "The source is Parquet: Parquet imports come later; use JSON Lines.")


def _neither(source: ByteSource, start: bytes) -> FileRefused:
    if _HTML.match(start):
        return FileRefused(
            "NOT_JSON", "The source is HTML, not JSON: probably a login or an error page saved by a failed download."
        )
    if source.name.lower().endswith(_TABLE_NAMES):
        return FileRefused(
            "FORMAT_NOT_SUPPORTED",
            f"{source.name} is a table: CSV imports come later; convert it to JSON Lines, one object per row.",
        )
    first = start.splitlines()[0][:60].decode("utf-8", "replace")
    for _ in source.chunks():  # says NOT_UTF8 rather than NOT_JSON where that is the cause
        break
    return FileRefused(
        "NOT_JSON",
        f"The source is neither a JSON array nor JSON Lines: it starts with {quote(first)}.",
        line=1,
        column=1,
    )


def _lines(start: bytes, name: str) -> bool:
    """Return whether a source that starts with `{` has one object per line."""
    first, newline, rest = start.partition(b"\n")
    if not newline or name.endswith(_LINE_NAMES) or whole_object(first):
        return True
    # A broken first line does not make the others one object: look at the next ones, which must not be indented.
    return any(line.startswith(b"{") and whole_object(line) for line in rest.split(b"\n", 20)[:20])


def whole_object(line: bytes) -> bool:
    """Return whether the line is one object with balanced brackets."""
    line = line.strip()
    end = match_brackets(line, 0)
    return end == len(line)


def match_brackets(buffer: bytes, start: int) -> int:
    """Return the index after the bracket that closes the one at `start`, or -1 when the buffer ends before it."""
    depth = 0
    position = start
    size = len(buffer)
    while True:
        char = buffer[position]
        depth += 1 if char in b"{[" else -1
        position += 1
        if depth == 0:
            return position
        match = SKIP.match(buffer, position)
        position = match.end() if match else size
        if position >= size or buffer[position] not in b"{}[]":
            return -1
