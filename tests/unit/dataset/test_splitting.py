"""Rows are cut at the right bytes and named by the right place, whatever the chunk size."""

from __future__ import annotations

import hashlib
import io
import json

import pytest

from services.dataset.reading.problems import FileRefused
from services.dataset.reading.source import ByteSource
from services.dataset.reading.splitting import ArraySplitter, LineSplitter

pytestmark = pytest.mark.unit

CHUNKS = (1, 2, 3, 7, 64, 1 << 20)


def source(data: bytes, chunk: int = 1 << 20, name: str = "rows.json") -> ByteSource:
    return ByteSource(io.BytesIO(data), name, chunk)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_array_elements_are_exact_for_every_chunk_size(chunk: int) -> None:
    rows = [{"a": 'quote " brace } bracket ] \\'}, {"b": [1, {"c": "é中😀"}]}, {}, "text", 17, None, [1, 2]]
    data = json.dumps(rows, ensure_ascii=False, indent=1).encode()
    pieces = list(ArraySplitter(source(data, chunk)).pieces())
    assert [index for index, _ in pieces] == list(range(len(rows)))
    assert [json.loads(raw or b"") for _, raw in pieces] == rows


@pytest.mark.parametrize("chunk", CHUNKS)
def test_lines_are_physical_and_blank_ones_are_counted(chunk: int) -> None:
    data = b'\xef\xbb\xbf{"a":1}\r\n\r\n  \t\n{"a":"\xe4\xb8\xad"}\n{"a":3}'
    lines = LineSplitter(source(data, chunk))
    assert list(lines.pieces()) == [(1, b'{"a":1}'), (4, b'{"a":"\xe4\xb8\xad"}'), (5, b'{"a":3}')]


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ('[\n{"a":1},\n{"a":2},\n]', 4, 1, "after the comma on line 3"),
        ('[\n{"a":1}\n{"a":2}\n]', 3, 1, "expected ',' or ']' after row 0"),
        ('[{"a":1}', 1, 9, "without the closing ']'"),
        ('[{"a":1}] [', 1, 11, "the array has ended"),
        ('[\n{"a":1},\n {"中中": "b', 3, 2, "ends in the middle of row 1"),
        ("[,1]", 1, 2, "expected row 0"),
        ("[1,", 1, 4, "ends where row 1 should be"),
    ],
)
def test_broken_array_names_line_and_column(chunk: int, text: str, line: int, column: int, words: str) -> None:
    with pytest.raises(FileRefused) as caught:
        list(ArraySplitter(source(text.encode(), chunk)).pieces())
    assert (caught.value.reason, caught.value.line, caught.value.column) == ("INVALID_JSON", line, column)
    assert words in caught.value.message


def test_column_counts_characters_over_chunks_of_one_long_line() -> None:
    row = '{"a": "中中中中"}, '
    text = "[" + row * 5000 + "!"
    with pytest.raises(FileRefused) as caught:
        list(ArraySplitter(source(text.encode(), 4096)).pieces())
    assert (caught.value.line, caught.value.column) == (1, len(text))


def test_a_long_element_is_read_whole_and_a_longer_one_is_refused() -> None:
    data = json.dumps([{"a": "x" * 50_000}, {"b": 1}]).encode()
    assert len(list(ArraySplitter(source(data, 1000), 60_000).pieces())) == 2
    with pytest.raises(FileRefused, match=r"Row 0 \(line 1\) is longer than 40000 bytes"):
        list(ArraySplitter(source(data, 1000), 40_000).pieces())


@pytest.mark.parametrize("chunk", [100, 1 << 20])
def test_a_long_line_is_left_out_and_the_next_one_is_read(chunk: int) -> None:
    data = b'{"a":"' + b"x" * 5000 + b'"}\n{"b":1}\n' + b"y" * 3000
    assert list(LineSplitter(source(data, chunk), 1000).pieces()) == [(1, None), (2, b'{"b":1}'), (3, None)]


def test_the_source_is_hashed_while_it_is_read() -> None:
    data = b"\xef\xbb\xbf" + b'{"a":1}\n' * 999
    stream = source(data, 512)
    list(stream.chunks())
    assert stream.sha256 == hashlib.sha256(data).hexdigest()
    assert (stream.size_bytes, stream.byte_order_mark) == (len(data), True)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_wrong_utf8_is_named_by_its_offset(chunk: int) -> None:
    text = '[{"a": "ascii", "b": "中文编码"}]'
    good = len('[{"a": "ascii", "b": "')
    with pytest.raises(FileRefused) as caught:
        list(source(text.encode("gbk"), chunk).chunks())
    assert caught.value.reason == "NOT_UTF8"
    assert f"offset {good}" in caught.value.message
    if chunk > 64:
        assert "GB18030" in caught.value.message


def test_a_character_cut_at_the_end_is_refused() -> None:
    with pytest.raises(FileRefused, match="offset 3"):
        list(source(b"abc\xe4\xb8", 2).chunks())
