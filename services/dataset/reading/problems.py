"""What can be wrong with a source: one row of it, or the whole file."""

from dataclasses import dataclass

MAX_MESSAGE = 500
"""Longest message that is kept, in characters: a message quotes the data, and data can be long."""


@dataclass(frozen=True, slots=True)
class RowError:
    """One refused row, as it is stored and shown.

    Attributes:
        line: 1-based physical line for JSON Lines, 0-based index for a JSON array.
        field: path of the field in the row, such as `messages[2].content`; empty for the row as a whole.
        code: stable upper-case word, such as `EMPTY_FIELD`.
        message: what is wrong and what was expected.
    """

    line: int
    field: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth saying that does not refuse a row. `line` is -1 when it is about the file."""

    line: int
    code: str
    message: str


class RowProblem(Exception):
    """Raised while one row is decoded or converted; the reader adds the line and goes on with the next row."""

    def __init__(self, field: str, code: str, message: str, *, position: int = -1) -> None:
        super().__init__(message)
        self.field = field
        self.code = code
        self.message = message
        self.position = position
        """Byte in the row where its JSON is broken, or -1."""

    def at(self, line: int) -> RowError:
        """Return the error with its place in the source."""
        return RowError(line, self.field, self.code, shorten(self.message))


class FileRefused(Exception):
    """The whole source cannot be imported: no row of it is used.

    Attributes:
        reason: stable upper-case word, such as `NOT_UTF8`.
        field: the request's field to change (`source`, `format`, `mapping`).
        line, column: 1-based place in the file, 0 when it has none.
    """

    def __init__(self, reason: str, message: str, *, field: str = "source", line: int = 0, column: int = 0) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = shorten(message)
        self.field = field
        self.line = line
        self.column = column


def shorten(text: str, limit: int = MAX_MESSAGE) -> str:
    """Return the text, cut in the middle of nothing important: its start, with an ellipsis when it is too long."""
    clean = text.encode("utf-8", "replace").decode("utf-8")
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def quote(value: object, limit: int = 60) -> str:
    """Return a value as it is quoted in a message: short and printable."""
    return shorten(ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value), limit)


def kind_of(value: object) -> str:
    """Return the JSON name of a decoded value's type."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true/false"
    if isinstance(value, int | float):
        return "number"
    names: dict[type, str] = {str: "string", list: "list", dict: "object"}
    return names.get(type(value), type(value).__name__)
