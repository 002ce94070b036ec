"""What the rows are like: counted while they pass, in bounded memory."""

import math
import re
from array import array
from collections import Counter
from pathlib import Path
from typing import IO, Any

from services.dataset.reading.problems import Note
from services.dataset.reading.sample import Sample

ESTIMATE = "characters / 4, where a CJK character counts as one token; without the chat template"
"""How tokens are estimated: no tokenizer is known at import, and any choice would be wrong for some model."""

LONG_TOKENS = 32_768
_CONTROL = re.compile(r"<\|[a-z_]+\|>|\[/?INST\]|<</?SYS>>|</?s>")
# First bytes of UTF-8 for U+3000 to U+FFFF: Chinese, Japanese, Korean and their punctuation.
_NOT_WIDE = bytes(byte for byte in range(256) if not 0xE3 <= byte <= 0xEF)
_BATCH = 1 << 16
_IDS_CHECKED = 200_000
_NOTES_PER_CODE = 20
_TOKEN_CLASSES = tuple(128 << step for step in range(12))


def estimate_tokens(text: str) -> float:
    """Estimate the number of tokens of a text, as `ESTIMATE` says."""
    if text.isascii():
        return len(text) / 4
    wide = len(text.encode("utf-8", "replace").translate(None, _NOT_WIDE))
    return (len(text) - wide) / 4 + wide


class Notes:
    """Things worth saying, a few of each kind."""

    def __init__(self) -> None:
        self.items: list[Note] = []
        self._counts: Counter[str] = Counter()

    def add(self, line: int, code: str, message: str) -> None:
        """Keep the note unless there are enough of its code already."""
        self._counts[code] += 1
        if self._counts[code] <= _NOTES_PER_CODE:
            self.items.append(Note(line, code, message))


class Statistics:
    """Running counts. `spill` is a file of its own for the digests of all rows (8 bytes each)."""

    def __init__(self, notes: Notes, spill: Path) -> None:
        self.row_count = 0
        self.turn_count = 0
        self.tool_row_count = 0
        self.character_count = 0
        self.estimated_token_count = 0
        self.longest_tokens = 0
        self.turns_by_role: Counter[str] = Counter()
        self.rows_by_turns: Counter[int] = Counter()
        self.rows_by_characters: Counter[str] = Counter()
        self.rows_by_tokens: Counter[str] = Counter()
        self.rows_by_category: Counter[str] = Counter()
        self._notes = notes
        self._digests = DigestCounter(spill)
        self._ids: dict[str, int] = {}

    def add(self, line: int, sample: Sample, encoded: bytes) -> None:
        """Count a sample; `encoded` is its canonical form."""
        self.row_count += 1
        self._digests.add(hash(encoded))
        characters = 0
        tokens = 0.0
        texts = [message["content"] for message in sample.messages] + (sample.references or [])
        for text in texts:
            characters += len(text)
            tokens += estimate_tokens(text)
        for message in sample.messages:
            self.turns_by_role[message["role"]] += 1
        length = math.ceil(tokens)
        self.turn_count += len(sample.messages)
        self.character_count += characters
        self.estimated_token_count += length
        self.rows_by_turns[len(sample.messages)] += 1
        self.rows_by_characters[_class_of(characters)] += 1
        self.rows_by_tokens[_class_of(length)] += 1
        self.longest_tokens = max(self.longest_tokens, length)
        if sample.tools:
            self.tool_row_count += 1
        if sample.category and (sample.category in self.rows_by_category or len(self.rows_by_category) < 1000):
            self.rows_by_category[sample.category] += 1
        self._remark(line, sample, encoded, characters, length)

    def _remark(self, line: int, sample: Sample, encoded: bytes, characters: int, length: int) -> None:
        if length > LONG_TOKENS:
            self._notes.add(
                line,
                "LONG_ROW",
                f"row {line} has {characters} characters, about {length} tokens: most models cut it or leave it out",
            )
        if b"<" in encoded or b"[" in encoded[1:]:
            for message in sample.messages:
                if match := _CONTROL.search(message["content"]):
                    self._notes.add(
                        line,
                        "CONTROL_TOKEN",
                        f"row {line} has {match.group()} in its text: it is learned as plain text, not as a mark",
                    )
                    break
        if sample.id is not None and len(self._ids) < _IDS_CHECKED:
            first = self._ids.setdefault(sample.id, line)
            if first != line:
                self._notes.add(
                    line, "DUPLICATE_ID", f"the id {sample.id!r:.60} is on rows {first} and {line}; both stay"
                )

    def summary(self, empty_answer_count: int) -> dict[str, Any]:
        """Return all counts as JSON, named as in the API; this also counts the duplicates."""
        return {
            "turn_count": self.turn_count,
            "turns_by_role": dict(sorted(self.turns_by_role.items())),
            "duplicate_row_count": self._digests.duplicates(),
            "empty_answer_count": empty_answer_count,
            "character_count": self.character_count,
            "estimated_token_count": self.estimated_token_count,
            "rows_by_token_length": _ordered(self.rows_by_tokens),
            "tool_row_count": self.tool_row_count,
            "rows_by_character_length": _ordered(self.rows_by_characters),
            "rows_by_turn_count": {str(turns): rows for turns, rows in sorted(self.rows_by_turns.items())},
            "rows_by_category": dict(sorted(self.rows_by_category.items())),
            "longest_row_tokens": self.longest_tokens,
            "token_estimate": ESTIMATE,
        }


def _class_of(length: int) -> str:
    """Return the upper bound of the class that a length is in."""
    for bound in _TOKEN_CLASSES:
        if length <= bound:
            return str(bound)
    return "inf"


def _ordered(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: float(item[0])))


class DigestCounter:
    """Count repeated 64-bit digests exactly (but for collisions) in constant memory, through a file."""

    def __init__(self, spill: Path, pass_rows: int = 4 << 20) -> None:
        self._path = spill
        self._pass_rows = pass_rows
        self._batch = array("q")
        self._file: IO[bytes] | None = None
        self._count = 0

    def add(self, digest: int) -> None:
        """Note one digest."""
        self._batch.append(digest)
        if len(self._batch) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._file is None:
            self._file = self._path.open("wb")
        self._batch.tofile(self._file)
        self._count += len(self._batch)
        del self._batch[:]

    def duplicates(self) -> int:
        """Return how many of the digests had been there before; remove the file."""
        import numpy  # not at the top: only the import program needs it

        if self._file is None:
            values = numpy.array(self._batch, dtype=numpy.int64)
            return int(values.size - numpy.unique(values).size)
        self._flush()
        self._file.close()
        stored: Any = numpy.memmap(self._path, dtype=numpy.int64, mode="r")
        passes = 1 + self._count // self._pass_rows
        distinct = 0
        for index in range(passes):  # equal digests fall into the same pass
            parts = [
                block[block % passes == index]
                for block in (stored[at : at + self._pass_rows] for at in range(0, self._count, self._pass_rows))
            ]
            distinct += int(numpy.unique(numpy.concatenate(parts)).size)
        del stored
        self._path.unlink()
        return self._count - distinct
