"""The files of the usage journal: lines of calls, appended to one segment after the other.

A segment is written under `ID.open.jsonl` and renamed to `ID.jsonl` when it is sealed; from then on it never changes,
so that its sums and their ids are the same however often they are read. Everything here blocks: it runs in threads.
"""

import fcntl
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from services.chassis.files import sync_folder
from services.chassis.ids import new_id
from services.clients.billing import UsageRecord

OPEN, SEALED = ".open.jsonl", ".jsonl"
BEFORE = "usage-before.jsonl"
"""The one file that the journal was at first, as a sealed segment: each of its lines is a record with its own id."""
encode = msgspec.json.Encoder().encode


class Line(msgspec.Struct, omit_defaults=True, frozen=True):
    """A call that began, or, with `tokens` (by the item of the price list), one that ended; a sum has no call.

    `call` is unique; the request id, by which people look for it, may be the client's own.
    """

    project: str
    key_id: str
    resource_id: str
    call: str = ""
    request_id: str = ""
    tokens: dict[str, int] | None = None


class _LineBefore(msgspec.Struct):
    id: str
    project: str
    key_id: str
    resource_id: str
    item: str
    quantity: int


_decode = msgspec.json.Decoder(Line).decode
_decode_before = msgspec.json.Decoder(_LineBefore).decode
T = TypeVar("T")
Owner = tuple[str, str, str]


def encode_lines(lines: Iterable[Line]) -> bytes:
    """Return lines as they stand in a file."""
    return b"".join(encode(line) + b"\n" for line in lines)


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a segment; one that is torn loses only itself."""
    return _read(path, _decode)


def _read(path: Path, decode: Callable[[bytes], T]) -> Iterator[T]:
    with path.open("rb") as file:
        for raw in file:
            try:
                yield decode(raw)
            except msgspec.MsgspecError:
                continue


def sums(lines: Iterable[Line]) -> dict[Owner, Counter[str]]:
    """Add up the tokens of calls that ended; a call counts once, however often its line was written."""
    added: dict[Owner, Counter[str]] = {}
    seen: set[str] = set()
    for line in lines:
        if line.tokens and line.call not in seen:
            seen.update((line.call,) if line.call else ())
            added.setdefault((line.project, line.key_id, line.resource_id), Counter()).update(line.tokens)
    return added


def unended(lines: Iterable[Line]) -> dict[str, Line]:
    """Return the calls that began and did not end."""
    began: dict[str, Line] = {}
    ended: set[str] = set()
    for line in lines:
        if line.tokens is None:
            began[line.call] = line
        else:
            ended.add(line.call)
    return {call: line for call, line in began.items() if call not in ended}


def records(path: Path) -> Iterator[tuple[str, UsageRecord]]:
    """Yield project and record for each sum of a sealed segment; the ids come from its name and what is summed."""
    if path.name == BEFORE:
        for line in _read(path, _decode_before):
            fields = msgspec.structs.asdict(line)
            yield fields.pop("project"), UsageRecord(**fields)
        return
    for owner, counted in sums(read_lines(path)).items():
        project, key_id, resource_id = owner
        for item, quantity in counted.items():
            digest = hashlib.blake2b("\0".join((*owner, item)).encode(), digest_size=8).hexdigest()
            name = f"{path.name.removesuffix(SEALED)}-{digest}"
            yield project, UsageRecord(id=name, item=item, quantity=quantity, resource_id=resource_id, key_id=key_id)


def sealed(folder: Path) -> list[Path]:
    """Return the sealed segments, oldest first."""
    return sorted(path for path in folder.glob(f"usage-*{SEALED}") if not path.name.endswith(OPEN))


def left_open(folder: Path) -> list[Path]:
    """Return the unsealed segments that nobody writes any more, oldest first."""
    return [path for path in sorted(folder.glob(f"usage-*{OPEN}")) if not _written(path)]


def _written(path: Path) -> bool:
    """Return whether a process has it open: a second gateway may be started in the same home by mistake."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def seal(path: Path) -> None:
    """Make a segment durable and final."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    path.rename(path.with_name(path.name.removesuffix(OPEN) + SEALED))
    sync_folder(path.parent)


class Segment:
    """The segment that is written now."""

    def __init__(self, folder: Path) -> None:
        """Begin a fresh one. Raises: OSError."""
        self.path = folder / f"{new_id('usage-')}{OPEN}"
        self._descriptor = _open(self.path)
        self._rest = b""
        self.size = 0
        sync_folder(folder)

    def append(self, data: bytes) -> None:
        """Write; after an error what is left goes first, so that a line that was cut is mended. Raises: OSError."""
        self._rest += data
        while self._rest:
            written = os.write(self._descriptor, self._rest)
            self.size += written
            self._rest = self._rest[written:]

    def sync(self) -> None:
        """Make what was written durable. Raises: OSError."""
        os.fsync(self._descriptor)

    def compact(self) -> None:
        """Put sums in the place of ended calls: nobody was told of them one by one. Raises: OSError."""
        lines = list(read_lines(self.path))
        totals = [Line(*owner, tokens=dict(counted)) for owner, counted in sums(lines).items()]
        data = encode_lines([*totals, *unended(lines).values()])
        part = self.path.with_suffix(".part")
        part.unlink(missing_ok=True)
        descriptor = _open(part)
        try:
            if os.write(descriptor, data) < len(data):
                raise OSError("No space is left for the sums.")
            os.fsync(descriptor)
            part.rename(self.path)
        except OSError:
            os.close(descriptor)
            raise
        os.close(self._descriptor)
        self._descriptor, self.size = descriptor, len(data)
        sync_folder(self.path.parent)

    def close(self) -> None:
        """Let the file go: it may be sealed from now on."""
        os.close(self._descriptor)

    def seal(self) -> None:
        """End it. Raises: OSError."""
        self.append(b"")
        self.close()
        seal(self.path)


def _open(path: Path) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor
