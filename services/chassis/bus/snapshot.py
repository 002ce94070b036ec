"""The records of a bucket in a file, for a process that starts before it has heard the bus.

There is always a whole file: a new one is written under a name of its own, synced, and put in the place of the last
one, which is kept beside it as `NAME.before`.
"""

import asyncio
import json
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from services.chassis.files import sync_folder
from services.chassis.tasks import end_tasks

SAVE_SECONDS = 0.1
SHARE = 10
"""A save is followed by a pause this many times as long, so that records that never rest do not fill a core."""
Value = Mapping[str, Any] | None
Records = dict[str, tuple[int, Value]]
_log = logging.getLogger(__name__)


class Snapshot:
    """Keeps records in a file; one saver, which is told of changes by `changed`."""

    def __init__(self, path: Path, records: Callable[[], Records]) -> None:
        """Args: records: returns a copy of what is to be kept; it is called in a thread."""
        self._path, self._records = path, records
        self._before = path.with_name(f"{path.name}.before")
        self._whole = False  # whether the file that is there can be read
        self._changes, self._saved = 0, 0
        self._one = threading.Lock()
        self._task: asyncio.Task[None] | None = None

    def load(self) -> Records:
        """Return what was kept, or what was kept before that; nothing if neither can be read."""
        for left in self._path.parent.glob(f"{self._path.name}.*.part"):
            left.unlink(missing_ok=True)
        for path in (self._path, self._before):
            try:
                raw = json.loads(path.read_text("utf-8"))
                records = {str(key): (int(version), value) for key, (version, value) in raw.items()}
            except FileNotFoundError:
                continue
            except (ValueError, TypeError, AttributeError, OSError) as error:
                _log.warning("the snapshot %s cannot be read: %s", path, error)
                continue
            self._whole = path == self._path
            return records
        return {}

    def changed(self) -> None:
        """Save soon; many changes are one save."""
        self._changes += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._save_until_still())

    async def stop(self) -> None:
        """Save what is not saved yet."""
        await end_tasks(self._task)
        if self._saved != self._changes:
            await asyncio.to_thread(self._save)

    async def _save_until_still(self) -> None:
        pause = SAVE_SECONDS
        while self._saved != self._changes:
            await asyncio.sleep(pause)
            begun = time.monotonic()
            try:
                await asyncio.to_thread(self._save)
            except OSError as error:
                _log.warning("the snapshot %s cannot be written: %s", self._path, error)
            pause = max(SAVE_SECONDS, SHARE * (time.monotonic() - begun))

    def _save(self) -> None:
        with self._one:  # a stop does not wait for the thread of a save that it cancelled
            changes, records = self._changes, self._records()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, part = tempfile.mkstemp(".part", f"{self._path.name}.", self._path.parent)
            try:
                with open(descriptor, "w", encoding="utf-8") as file:
                    _write(file.write, records)
                    file.flush()
                    os.fsync(descriptor)
                if self._whole:
                    self._before.unlink(missing_ok=True)
                    os.link(self._path, self._before)
                os.replace(part, self._path)
            except OSError:
                with suppress(OSError):
                    os.unlink(part)
                raise
            sync_folder(self._path.parent)
            self._whole, self._saved = True, changes


def _write(write: Callable[[str], Any], records: Records) -> None:
    """Write one JSON object record by record: encoded whole, many records would hold up all other threads."""
    write("{")
    for number, (key, record) in enumerate(records.items()):
        write(f"{',' if number else ''}\n{json.dumps(key)}: {json.dumps(record)}")
    write("\n}\n")
