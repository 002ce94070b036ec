"""One import: sources in, canonical file and findings out."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from services.dataset.reading.canonical import DATA_FILE, CanonicalWriter
from services.dataset.reading.decoding import decode_row
from services.dataset.reading.formats import Converter, Format, choose_converter
from services.dataset.reading.layout import Layout, detect_layout
from services.dataset.reading.problems import FileRefused, RowError, RowProblem
from services.dataset.reading.sample import Row, Sample
from services.dataset.reading.source import ByteSource
from services.dataset.reading.splitting import MAX_ROW_BYTES, ArraySplitter, LineSplitter
from services.dataset.reading.statistics import Notes, Statistics

KEPT_ERRORS = 1_000
_LOOK_ROWS = 20
_PROGRESS_ROWS = 2_000


@dataclass(frozen=True)
class Options:
    """How to read.

    Attributes:
        format: the chosen format, None to detect it.
        columns: our column name to the source's.
        max_bad_rows: bad rows that may be left out; 0 refuses the import at the first one.
        max_row_bytes: the longest row.
    """

    format: Format | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    max_bad_rows: int = 0
    max_row_bytes: int = MAX_ROW_BYTES


@dataclass
class Findings:
    """What an import found out."""

    format: Format | None = None
    row_count: int = 0
    bad_row_count: int = 0
    errors: list[tuple[str, RowError]] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    notes: Notes = field(default_factory=Notes)
    statistics: dict[str, Any] = field(default_factory=dict)
    digest: str = ""


Progress = Callable[[int, int], None]
"""Called now and then with good rows and bad rows so far."""


def import_sources(
    sources: Iterable[ByteSource], folder: Path, options: Options, findings: Findings, progress: Progress
) -> None:
    """Read all sources in order and write `data.parquet` in the folder.

    Every bad row is counted and the first thousand are kept, also when the import is refused for them.

    Raises: FileRefused: a source as a whole, BAD_ROWS, NO_ROWS. `findings` then says what was seen until there.
    """
    intake = _Intake(folder, options, findings, progress)
    try:
        for source in sources:
            intake.take(source)
    finally:
        intake.close()
    _judge(findings, options)


class _Intake:
    """Rows of one source after another into one canonical file."""

    def __init__(self, folder: Path, options: Options, findings: Findings, progress: Progress) -> None:
        self._folder = folder
        self._options = options
        self._findings = findings
        self._progress = progress
        self._statistics = Statistics(findings.notes, folder / "digests")
        self._writer: CanonicalWriter | None = None

    def take(self, source: ByteSource) -> None:
        findings = self._findings
        before = len(findings.errors)
        reader = RowReader(source, self._options, findings)
        for line, sample in reader.samples():
            content = self._open(source, reader.format).add(line, sample)
            self._statistics.add(line, sample, content)
            findings.row_count += 1
            if (findings.row_count + findings.bad_row_count) % _PROGRESS_ROWS == 0:
                self._progress(findings.row_count, findings.bad_row_count)
        # The first rows are decoded together before any is converted.
        findings.errors[before:] = sorted(findings.errors[before:], key=lambda item: item[1].line)

    def _open(self, source: ByteSource, format: Format) -> CanonicalWriter:
        known = self._findings.format
        if known is None or self._writer is None:
            self._findings.format = format
            self._writer = CanonicalWriter(self._folder / DATA_FILE, pairs=format is Format.EVALUATION_PAIRS)
        elif (known is Format.EVALUATION_PAIRS) != (format is Format.EVALUATION_PAIRS):
            raise FileRefused(
                "MIXED_FORMATS", f"{source.name} has {format.value} rows, the sources before {known.value}."
            )
        return self._writer

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._findings.digest = self._writer.digest
        self._findings.statistics = self._statistics.summary(self._findings.codes["EMPTY_ANSWER"])


def _judge(findings: Findings, options: Options) -> None:
    bad = findings.bad_row_count
    if bad > options.max_bad_rows:
        rows = "1 row was" if bad == 1 else f"{bad} rows were"
        allowed = (
            f"the policy leaves out at most {options.max_bad_rows}" if options.max_bad_rows else "the policy is REJECT"
        )
        raise FileRefused("BAD_ROWS", f"{rows} refused and {allowed}.{_first(findings)}")
    if findings.row_count == 0:
        raise FileRefused("NO_ROWS", "The source holds no usable row." + _first(findings))


def _first(findings: Findings) -> str:
    if not findings.errors:
        return ""
    first = findings.errors[0][1]
    return f" The first refused is {first.line}: {first.message}"


class RowReader:
    """Checked samples of one source; what is wrong with the others goes into the findings."""

    def __init__(self, source: ByteSource, options: Options, findings: Findings) -> None:
        self.format = Format.OPENAI_MESSAGES
        self._source = source
        self._options = options
        self._findings = findings
        self._layout = detect_layout(source)
        limit = options.max_row_bytes
        self._splitter: LineSplitter | ArraySplitter = (
            LineSplitter(source, limit)
            if self._layout is Layout.LINES
            else ArraySplitter(source, limit, single=self._layout is Layout.OBJECT)
        )
        self._remark()

    def samples(self) -> Iterator[tuple[int, Sample]]:
        """Yield line or index, and sample, of each good row. Raises: FileRefused."""
        rows = self._rows()
        first: list[tuple[int, Row]] = []
        for item in rows:
            first.append(item)
            if len(first) == _LOOK_ROWS:
                break
        if not first:
            return
        convert = choose_converter([row for _, row in first], self._options.format, self._options.columns)
        self._announce(convert)
        for line, row in chain(first, rows):
            try:
                sample = convert(row)
            except RowProblem as problem:
                self._refuse(line, problem)
            else:
                yield line, sample

    def _rows(self) -> Iterator[tuple[int, Row]]:
        """Yield each row that is a JSON object."""
        for line, raw in self._splitter.pieces():
            try:
                yield line, self._decode(raw)
            except RowProblem as problem:
                if problem.code == "INVALID_JSON" and isinstance(self._splitter, ArraySplitter):
                    raise _broken(self._splitter, line, problem) from problem
                self._refuse(line, problem)

    def _decode(self, raw: bytes | None) -> Row:
        if raw is None:
            raise RowProblem("", "ROW_TOO_LONG", f"The row is longer than {self._options.max_row_bytes} bytes.")
        return decode_row(raw)

    def _refuse(self, line: int, problem: RowProblem) -> None:
        findings = self._findings
        findings.bad_row_count += 1
        findings.codes[problem.code] += 1
        if len(findings.errors) < KEPT_ERRORS:
            findings.errors.append((self._source.name, problem.at(line)))

    def _remark(self) -> None:
        notes = self._findings.notes
        if self._source.byte_order_mark:
            notes.add(-1, "BYTE_ORDER_MARK", "a UTF-8 byte-order mark at the start was left out")
        if self._layout is Layout.LINES and self._source.name.lower().endswith(".json"):
            notes.add(-1, "JSON_LINES", f"{self._source.name} is read as JSON Lines: one object per line")
        if self._layout is Layout.OBJECT:
            notes.add(-1, "ONE_OBJECT", "the top level is one object, not a list: it is read as one row")

    def _announce(self, convert: Converter) -> None:
        self.format = convert.format
        if convert.unused:
            self._findings.notes.add(-1, "UNUSED_COLUMNS", f"columns that are not used: {', '.join(convert.unused)}")


def _broken(splitter: ArraySplitter, row: int, problem: RowProblem) -> FileRefused:
    """Refuse a file with broken JSON inside an array: where the next element begins would be a guess."""
    line, column = splitter.place(max(problem.position, 0))
    words = problem.message.rsplit(" at column", 1)[0].removeprefix("Invalid JSON: ")
    message = f"Invalid JSON at line {line} column {column} (row {row}): {words}."
    return FileRefused("INVALID_JSON", message, line=line, column=column)
