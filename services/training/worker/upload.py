"""Checkpoints go to the store behind the loop's back: training goes on while they are uploaded."""

import logging
import queue
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from services.chassis.errors import Unavailable
from services.chassis.objects import Manifest, ObjectStore, upload_folder

_log = logging.getLogger(__name__)
AWAY_SECONDS = 600.0
"""How long a store may be away before the attempt fails."""
Done = Callable[[Manifest], None]


class Uploader:
    """One upload after the other; at most one waits, and then the loop waits too."""

    def __init__(self, store: ObjectStore, bucket: str, away_seconds: float = AWAY_SECONDS) -> None:
        self._store = store
        self._bucket = bucket
        self._away = away_seconds
        self._queue: queue.Queue[tuple[Path, str, Done] | None] = queue.Queue(maxsize=1)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="uploader", daemon=True)
        self._thread.start()

    def put(self, folder: Path, prefix: str, done: Done) -> None:
        """Upload a folder and delete it; ``done`` is called in the thread with its manifest.

        Raises: what an earlier upload failed with.
        """
        self.check()
        self._queue.put((folder, prefix, done))

    def check(self) -> None:
        """Raise what an upload failed with."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Wait until all is uploaded. Raises: what an upload failed with."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        self.check()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if self._error is not None:
                continue  # whoever puts is told; the queue must not block it
            folder, prefix, done = item
            try:
                done(self._upload(folder, prefix))
                shutil.rmtree(folder, ignore_errors=True)
            except Exception as error:  # the loop raises it, in its own thread
                self._error = error

    def _upload(self, folder: Path, prefix: str) -> Manifest:
        begin = time.monotonic()
        while True:
            try:
                return upload_folder(self._store, self._bucket, prefix, folder)
            except Unavailable as error:
                if time.monotonic() - begin > self._away:
                    raise
                _log.warning("the store is away, trying again: %s", error)
                time.sleep(min(5.0, max(0.5, self._away / 100)))
