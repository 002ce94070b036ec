"""`python -m services.dataset.worker FOLDER` imports one source, as `services/dataset/import_work.py` says.

A process of its own, so that parsing blocks no caller.
"""

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from services.chassis.errors import Conflict, ModelryError, Unavailable
from services.chassis.launch import ProgramResult, write_progress
from services.chassis.objects import Manifest, ObjectInfo, ObjectStore, folder_prefix
from services.chassis.worker import FailureWords, run_program
from services.dataset.import_work import CRASHED, ImportCounts, ImportReport, ImportWork
from services.dataset.object_sources import ObjectSource, find_objects, named
from services.dataset.reading.canonical import DATA_FILE
from services.dataset.reading.formats import Format
from services.dataset.reading.importing import Findings, Options, import_sources
from services.dataset.reading.problems import FileRefused
from services.dataset.reading.source import ByteSource, Readable

MANIFEST_FILE = "manifest.json"
WORDS = FailureWords(CRASHED, "The import program broke off; its log says where.")
_PROGRESS_SECONDS = 0.25


class ImportRun:
    """One import under way: what it found out, and how far it is."""

    def __init__(self, folder: Path, work: ImportWork) -> None:
        self.work = work
        self.findings = Findings()
        self.bytes_read = 0
        self.bytes_total = 0
        self._folder = folder
        self._rows = folder / "rows"
        self._told = 0.0

    @property
    def counts(self) -> ImportCounts:
        """How far it is."""
        findings = self.findings
        return ImportCounts(findings.row_count, findings.bad_row_count, self.bytes_read, self.bytes_total)

    def report(self) -> ImportReport:
        """Return the refused rows and counts, also of a refused import."""
        return ImportReport(self.counts, self.findings.statistics, tuple(self.findings.errors))

    def progress(self, *_: int) -> None:
        """Tell how much was read, at most four times a second."""
        if time.monotonic() - self._told >= _PROGRESS_SECONDS:
            self._told = time.monotonic()
            write_progress(self._folder, asdict(self.counts))

    def execute(self) -> ImportReport:
        """Read the source and store the canonical rows. Raises: FileRefused, ModelryError."""
        shutil.rmtree(self._rows, ignore_errors=True)
        self._rows.mkdir(parents=True)
        try:
            identity = self._read(self.work.source)
            manifest = self._store(identity)
        finally:
            shutil.rmtree(self._rows, ignore_errors=True)
        assert self.findings.format is not None, "an import that was not refused has a format"
        return replace(
            self.report(),
            format=self.findings.format.value,
            digest=self.findings.digest,
            identity=identity,
            manifest=manifest,
            notes=tuple(note.message for note in self.findings.notes.items[:3]),
        )

    def _read(self, place: ObjectSource) -> dict[str, str]:
        """Read all objects of the source into the folder; return the identity of the source as it was read."""
        store = ObjectStore(place.access)
        objects = find_objects(store, place.bucket, place.prefix)
        self.bytes_total = sum(info.size for info in objects)
        read: list[tuple[ByteSource, ObjectInfo]] = []

        def sources() -> Iterator[ByteSource]:
            for info in objects:
                with store.open_stream(place.bucket, info.key) as stream:
                    if stream.size != info.size:
                        message = f"{place.bucket}/{info.key} was replaced while it was imported."
                        raise Conflict(message, reason="OBJECT_CHANGED")
                    source = ByteSource(_Counted(stream, self), place.name or info.key)
                    read.append((source, replace(info, etag=stream.etag)))
                    yield source

        chosen = Format(self.work.format) if self.work.format else None
        options = Options(chosen, self.work.columns, self.work.max_bad_rows)
        import_sources(sources(), self._rows, options, self.findings, self.progress)
        return _identity(place.bucket, place.prefix, read)

    def _store(self, identity: Mapping[str, str]) -> dict[str, Any]:
        """Upload the canonical rows under the attempt's prefix, the manifest last."""
        work, findings = self.work, self.findings
        store, prefix = ObjectStore(work.output), folder_prefix(work.prefix)
        manifest = Manifest.of_folder(self._rows)
        store.upload_file(self._rows / DATA_FILE, work.bucket, prefix + DATA_FILE)
        content = {
            **manifest.to_json(),
            "rows": findings.digest,
            "row_count": findings.row_count,
            "statistics": findings.statistics,
            "source": identity,
            "notes": [{"line": note.line, "code": note.code, "message": note.message} for note in findings.notes.items],
        }
        store.put_json(work.bucket, prefix + MANIFEST_FILE, content)
        return manifest.to_json()


class _Counted:
    """A stream whose bytes count as progress."""

    def __init__(self, stream: Readable, run: ImportRun) -> None:
        self._stream = stream
        self._run = run

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        self._run.bytes_read += len(data)
        self._run.progress()
        return data


def _identity(bucket: str, prefix: str, read: list[tuple[ByteSource, ObjectInfo]]) -> dict[str, str]:
    if len(read) > 1:
        lines = json.dumps([[info.key, info.size, source.sha256] for source, info in read], ensure_ascii=False)
        digest = hashlib.sha256(lines.encode()).hexdigest()
        size = sum(info.size for _, info in read)
        return {"bucket": bucket, "prefix": prefix, "objects": str(len(read)), "size": str(size), "sha256": digest}
    source, info = read[0]
    return {"bucket": bucket, "key": info.key, "size": str(info.size), "etag": info.etag, "sha256": source.sha256}


def import_one(folder: Path, spec: Mapping[str, Any]) -> ProgramResult:
    """Run one attempt. What is wrong with the data or its place is the user's; an outage is not."""
    run = ImportRun(folder, ImportWork.from_json(spec))
    try:
        return ProgramResult(run.execute().to_json())
    except FileRefused as refused:
        field = "" if refused.field == "source" else f"dataset_version.{refused.field}: "
        return ProgramResult(run.report().to_json(), refused.reason, field + refused.message, user=True)
    except Unavailable as error:
        return ProgramResult(run.report().to_json(), error.reason, error.message)
    except ModelryError as error:
        cause = named(error, "object.", own=False)
        return ProgramResult(run.report().to_json(), cause.reason, cause.message, user=True)


if __name__ == "__main__":
    sys.exit(run_program(import_one, WORDS))
