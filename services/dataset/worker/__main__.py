"""`python -m services.dataset.worker` imports one source; a process of its own, so that parsing blocks no caller.

Reads one line of JSON (the spec, with keys of stores) from stdin and ends when stdin is closed: its service is gone.
Writes JSON lines to stdout: `progress` now and then, then one `finished`, `refused` (the data is wrong) or `failed`
(the installation is). Logs and tracebacks go to stderr.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from services.chassis.errors import Conflict, ModelryError, Unavailable
from services.chassis.objects import Manifest, ObjectInfo, ObjectStore, StoreAccess, folder_prefix
from services.dataset.object_sources import find_objects, named
from services.dataset.reading.canonical import DATA_FILE
from services.dataset.reading.formats import Format
from services.dataset.reading.importing import Findings, Options, import_sources
from services.dataset.reading.problems import FileRefused
from services.dataset.reading.source import ByteSource, Readable

MANIFEST_FILE = "manifest.json"
_PROGRESS_SECONDS = 0.25


class Voice:
    """Tells the service how far the import is: at most four times a second, and the outcome."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._last = 0.0
        self.bytes_read = 0
        self.bytes_total = 0

    def progress(self, *_: int) -> None:
        """Says how much was read, if it was silent for long enough."""
        if time.monotonic() - self._last >= _PROGRESS_SECONDS:
            self._last = time.monotonic()
            self.say("progress", {})

    def say(self, kind: str, body: dict[str, Any]) -> None:
        """Writes one line."""
        counts = {
            "rows": self._findings.row_count,
            "bad_rows": self._findings.bad_row_count,
            "bytes_read": self.bytes_read,
            "bytes_total": self.bytes_total,
        }
        sys.stdout.write(json.dumps({"kind": kind, **counts, **body}) + "\n")
        sys.stdout.flush()


class _Counted:
    """A stream whose bytes count as progress."""

    def __init__(self, stream: Readable, voice: Voice) -> None:
        self._stream = stream
        self._voice = voice

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        self._voice.bytes_read += len(data)
        self._voice.progress()
        return data


def opened(
    store: ObjectStore, bucket: str, found: list[ObjectInfo], name: str, voice: Voice
) -> Iterator[tuple[ByteSource, ObjectInfo]]:
    """Each object as a source, open while it is read."""
    for info in found:
        with store.open_stream(bucket, info.key) as stream:
            if stream.size != info.size:
                raise Conflict(f"{bucket}/{info.key} was replaced while it was imported.", reason="OBJECT_CHANGED")
            yield ByteSource(_Counted(stream, voice), name or info.key), replace(info, etag=stream.etag)


def import_place(spec: dict[str, Any], findings: Findings, voice: Voice) -> dict[str, str]:
    """Reads all objects of the spec's source into the folder; returns the identity of the source as it was read."""
    place = spec["source"]
    store = ObjectStore(StoreAccess.from_json(place["access"]))
    found = find_objects(store, place["bucket"], place["prefix"])
    voice.bytes_total = sum(info.size for info in found)
    options = spec["options"]
    chosen = Format(options["format"]) if options["format"] else None
    read: list[tuple[ByteSource, ObjectInfo]] = []

    def sources() -> Iterator[ByteSource]:
        for source, info in opened(store, place["bucket"], found, place["name"], voice):
            read.append((source, info))
            yield source

    choice = Options(chosen, options["columns"], options["max_bad_rows"])
    import_sources(sources(), Path(spec["folder"]), choice, findings, voice.progress)
    return _identity(place["bucket"], place["prefix"], read)


def _identity(bucket: str, prefix: str, read: list[tuple[ByteSource, ObjectInfo]]) -> dict[str, str]:
    if len(read) > 1:
        lines = json.dumps([[info.key, info.size, source.sha256] for source, info in read], ensure_ascii=False)
        digest = hashlib.sha256(lines.encode()).hexdigest()
        size = sum(info.size for _, info in read)
        return {"bucket": bucket, "prefix": prefix, "objects": str(len(read)), "size": str(size), "sha256": digest}
    source, info = read[0]
    return {"bucket": bucket, "key": info.key, "size": str(info.size), "etag": info.etag, "sha256": source.sha256}


def store_output(spec: dict[str, Any], findings: Findings, identity: dict[str, str]) -> dict[str, Any]:
    """Uploads the canonical rows under the attempt's prefix, the manifest last."""
    folder, output = Path(spec["folder"]), spec["output"]
    store = ObjectStore(StoreAccess.from_json(output["access"]))
    manifest = Manifest.of_folder(folder)
    prefix = folder_prefix(output["prefix"])
    store.upload_file(folder / DATA_FILE, output["bucket"], prefix + DATA_FILE)
    notes = [{"line": note.line, "code": note.code, "message": note.message} for note in findings.notes.items]
    content = {
        **manifest.to_json(),
        "rows": findings.digest,
        "row_count": findings.row_count,
        "statistics": findings.statistics,
        "source": identity,
        "notes": notes,
    }
    store.put_json(output["bucket"], prefix + MANIFEST_FILE, content)
    return manifest.to_json()


def report(findings: Findings) -> dict[str, Any]:
    """The refused rows and counts of an import, also of a refused one."""
    errors = [[name, error.line, error.field, error.code, error.message] for name, error in findings.errors]
    return {"errors": errors, "statistics": findings.statistics}


def run(spec: dict[str, Any]) -> int:
    """One attempt, from the spec to the last line. Returns the exit code."""
    findings = Findings()
    voice = Voice(findings)
    folder = Path(spec["folder"])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        identity = import_place(spec, findings, voice)
        manifest = store_output(spec, findings, identity)
    except FileRefused as refused:
        field = "" if refused.field == "source" else f" (dataset_version.{refused.field})"
        voice.say("refused", {"reason": refused.reason, "message": refused.message + field, **report(findings)})
    except Unavailable as error:
        voice.say("failed", {"reason": error.reason, "message": error.message})
        return 1
    except ModelryError as error:
        cause = named(error, "object.", own=False)
        voice.say("refused", {"reason": cause.reason, "message": cause.message, **report(findings)})
    else:
        assert findings.format is not None
        body = {
            "format": findings.format.value,
            "digest": findings.digest,
            "identity": identity,
            "manifest": manifest,
            "notes": [note.message for note in findings.notes.items[:3]],
        }
        voice.say("finished", {**body, **report(findings)})
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def end_with_service() -> None:
    """Ends this process, at once, when the service closes stdin or dies."""
    while os.read(0, 4096):
        pass
    os._exit(3)


def main() -> int:
    """The program."""
    spec = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=end_with_service, name="end-with-service", daemon=True).start()
    os.nice(5)
    return run(spec)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # the thread that waits on stdin must not hold the end up
