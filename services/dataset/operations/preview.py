"""Read a few rows of a canonical file where it lies, without fetching all of it."""

import asyncio
import io
import json
from dataclasses import dataclass
from typing import Any

from services.chassis.errors import NotFound, Unavailable
from services.chassis.objects import ObjectStore, StoreAccess, folder_prefix
from services.dataset.domain import Output
from services.dataset.object_sources import open_store

_DATA_FILE = "data.parquet"


@dataclass(frozen=True)
class PreviewRow:
    """One row as it was understood."""

    line: int
    messages_json: str
    references: tuple[str, ...]
    category: str
    tools_json: str


async def read_rows(access: StoreAccess, output: Output, offset: int, count: int) -> list[PreviewRow]:
    """Return rows from `offset` on.

    Raises: Unavailable: the store does not answer, or has lost the rows (no fault of the caller's).
    """
    try:
        return await asyncio.to_thread(_read, access, output, offset, count)
    except NotFound as error:
        raise Unavailable("The rows of this version are not on the store.", reason="ROWS_MISSING") from error


def _read(access: StoreAccess, output: Output, offset: int, count: int) -> list[PreviewRow]:
    # Imported here: a service that nobody asks for a preview does not pay for it.
    import pyarrow.parquet as pq

    raw = RangedObject(open_store(access), output.files.bucket, folder_prefix(output.files.prefix) + _DATA_FILE)
    file = pq.ParquetFile(io.BufferedReader(raw, 1 << 18))
    rows: list[PreviewRow] = []
    start = 0
    for group in range(file.num_row_groups):
        size = file.metadata.row_group(group).num_rows
        if start + size > offset and len(rows) < count:
            first = max(offset - start, 0)
            wanted = file.read_row_group(group).slice(first, count - len(rows))
            rows.extend(_row(row) for row in wanted.to_pylist())
        start += size
    return rows


def _row(row: dict[str, Any]) -> PreviewRow:
    return PreviewRow(
        line=row["line"],
        messages_json=row["messages"],
        references=tuple(json.loads(row.get("references") or "[]")),
        category=row.get("category") or "",
        tools_json=row.get("tools") or "",
    )


class RangedObject(io.RawIOBase):
    """An object as a file that can be read anywhere: each read is one ranged request."""

    def __init__(self, store: ObjectStore, bucket: str, key: str) -> None:
        """Ask the store for the object's size. Raises: NotFound, Unavailable."""
        super().__init__()
        self._store, self._bucket, self._key = store, bucket, key
        self._size = store.head(bucket, key).size
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the next byte's place."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to a place; nothing is asked of the store."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer."""
        wanted = min(len(buffer), self._size - self._position)
        if wanted <= 0:
            return 0
        filled = 0
        with self._store.open_stream(self._bucket, self._key, self._position) as stream:
            while filled < wanted and (piece := stream.read(wanted - filled)):
                buffer[filled : filled + len(piece)] = piece
                filled += len(piece)
        self._position += filled
        return filled
