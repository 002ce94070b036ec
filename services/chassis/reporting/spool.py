"""The numbered reports of one attempt on disk: written by its worker before they are published, read by its service.

`FOLDER/spool/<number>.jsonl` holds the reports from that number on, one JSON object a line; a new file begins every
256 KiB, so that whoever needs the last ones does not read all. `FOLDER/spool/sent` is the last number that the bus
acknowledged. One process writes; any number read.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from services.chassis.files import sync_folder

SPOOL_FOLDER = "spool"
_SENT_FILE = "sent"
_SEGMENT_BYTES = 256 * 1024
_DIGITS = 10


class Spool:
    """The writing end. Not for several threads at once: its owner holds a lock."""

    def __init__(self, folder: Path) -> None:
        """Open the spool of an attempt's folder, or go on with it after the last whole line."""
        self._folder = folder / SPOOL_FOLDER
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._descriptor = -1
        self._size = 0
        self.last = 0
        for path in _segments(self._folder)[-1:]:
            self._reopen(path)
        self._sent_file = os.open(self._folder / _SENT_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.sent = min(int(os.pread(self._sent_file, _DIGITS, 0) or b"0"), self.last)

    def append(self, report: Mapping[str, Any]) -> int:
        """Store a report under the next number, on the disk when this returns. Raises OSError and stores nothing."""
        number = self.last + 1
        line = json.dumps({**report, "number": number}, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        if self._descriptor < 0 or self._size >= _SEGMENT_BYTES:
            self._begin_segment(number)
        try:
            _write_all(self._descriptor, line)
            os.fsync(self._descriptor)
        except OSError:
            with suppress(OSError):  # what was written of it must not become the head of the next line
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(line)
        self.last = number
        return number

    def mark_sent(self, number: int) -> None:
        """Note that the bus has everything up to this number. A crash may lose that: sending again is harmless."""
        os.pwrite(self._sent_file, f"{number:0{_DIGITS}}".encode(), 0)
        self.sent = number

    def unsent(self, limit: int = 256) -> list[dict[str, Any]]:
        """Return the next reports that the bus has not acknowledged, none that is not on the disk yet."""
        last = self.last
        return [report for report in read_spool(self._folder.parent, self.sent, limit) if report["number"] <= last]

    def close(self) -> None:
        """Let the files go."""
        for descriptor in (self._descriptor, self._sent_file):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._sent_file = -1

    def _begin_segment(self, number: int) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        path = self._folder / f"{number:0{_DIGITS}}.jsonl"
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = 0
        sync_folder(self._folder)

    def _reopen(self, path: Path) -> None:
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        os.ftruncate(self._descriptor, whole)
        self._size = whole
        # A segment whose first line was torn begins where the one before it ended.
        self.last = int(path.stem) - 1
        for report in _lines(data[:whole]):
            self.last = report["number"]


def read_spool(folder: Path, after: int = 0, limit: int = 0) -> list[dict[str, Any]]:
    """Return the reports of an attempt's folder with a number above `after`, in order; at most `limit` if set.

    A last line that its writer did not finish is no report. A folder without a spool has none.
    """
    segments = _segments(folder / SPOOL_FOLDER)
    reports: list[dict[str, Any]] = []
    for index, path in enumerate(segments):
        if index + 1 < len(segments) and int(segments[index + 1].stem) <= after + 1:
            continue
        try:
            data = path.read_bytes()
        except FileNotFoundError:  # the attempt's folder is being removed
            break
        for report in _lines(data[: data.rfind(b"\n") + 1]):
            if report["number"] > after:
                reports.append(report)
                if len(reports) == limit:
                    return reports
    return reports


def _segments(folder: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [folder / name for name in names if name.endswith(".jsonl") and name.removesuffix(".jsonl").isdigit()]


def _lines(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.splitlines():
        with suppress(ValueError):
            report = json.loads(line)
            if isinstance(report, dict) and isinstance(report.get("number"), int):
                yield report


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
