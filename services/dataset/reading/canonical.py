"""The canonical file: Parquet with one conversation per row, written in bounded row groups."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from services.dataset.reading.sample import Sample

DATA_FILE = "data.parquet"
GROUP_ROWS = 2_000
GROUP_BYTES = 8 << 20

_TRAINING = pa.schema([("line", pa.int64()), ("messages", pa.string()), ("tools", pa.string())])
_PAIRS = pa.schema(
    [("line", pa.int64()), ("messages", pa.string()), ("references", pa.string()), ("category", pa.string())]
)
_encode = msgspec.json.Encoder().encode


def encode_sample(sample: Sample) -> tuple[bytes, bytes | None, bytes | None]:
    """Encode messages, and tools or references, as compact JSON."""
    tools = _encode(sample.tools) if sample.tools else None
    references = _encode(sample.references) if sample.references is not None else None
    return _encode(sample.messages), tools, references


class CanonicalWriter:
    """Write rows and compute the digest of the data, in which line numbers have no part."""

    def __init__(self, path: Path, *, pairs: bool) -> None:
        self._schema = _PAIRS if pairs else _TRAINING
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._columns: list[list[Any]] = [[] for _ in self._schema]
        self._held = 0
        self._hash = hashlib.sha256(b"pairs\n" if pairs else b"conversations\n")

    @property
    def digest(self) -> str:
        """Digest of the rows so far: equal digests mean equal data in equal order."""
        return f"sha256:{self._hash.hexdigest()}"

    def add(self, line: int, sample: Sample) -> bytes:
        """Append a row; return the bytes that stand for its content."""
        messages, tools, references = encode_sample(sample)
        columns = self._columns
        columns[0].append(line)
        columns[1].append(messages)
        if self._schema is _PAIRS:
            columns[2].append(references)
            columns[3].append(sample.category)
            content = b"\x1f".join((messages, references or b"", _encode(sample.category)))
        else:
            columns[2].append(tools)
            content = messages if tools is None else messages + b"\x1f" + tools
        self._hash.update(content)
        self._hash.update(b"\n")
        self._held += len(content)
        if len(columns[0]) >= GROUP_ROWS or self._held >= GROUP_BYTES:
            self._flush()
        return content

    def _flush(self) -> None:
        arrays = [pa.array(column, field.type) for column, field in zip(self._columns, self._schema, strict=True)]
        self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        for column in self._columns:
            column.clear()
        self._held = 0

    def close(self) -> None:
        """Write what is held, and the end of the file."""
        if self._columns[0]:
            self._flush()
        self._writer.close()
