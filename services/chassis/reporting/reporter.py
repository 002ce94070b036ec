"""Reports of a worker to its service, which outlive the worker, the bus and the service.

    reporter = Reporter(folder)                  # reads FOLDER/spec.json; a SIGTERM sets stop_requested
    reporter.send("started", {"pid": os.getpid()})
    reporter.metrics(step, {"loss": 1.25})       # gathered for at most 100 ms
    if reporter.stop_requested.is_set(): ...
    reporter.send("finished", {"result": {}})
    reporter.close()

A report is on the disk when `send` returns. A thread of its own publishes the spool in order, one in flight, over a
connection that is made anew for ever; what it could not send, the service reads from the spool. Heartbeats go over the
same connection and are not stored. The caller needs no event loop.
"""

import json
import logging
import math
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.chassis.reporting.report_publisher import ReportLink
from services.chassis.reporting.spool import Spool

_log = logging.getLogger(__name__)
FORMAT = 1
SPEC_FILE = "spec.json"
GATHER_SECONDS = 0.1
PROGRESS_SECONDS = 0.5
LARGEST_REPORT_BYTES = 512 * 1024


class Reporter(AbstractContextManager["Reporter"]):
    """Reports of one attempt. Every method may be called from any thread."""

    def __init__(self, folder: Path | str, *, handle_signals: bool = True) -> None:
        """Read the spec, take over what an earlier worker of this folder left unsent, and begin to publish.

        `handle_signals`: a SIGTERM sets `stop_requested` (only where this is called in the main thread).
        """
        self.folder = Path(folder)
        self.spec: dict[str, Any] = json.loads((self.folder / SPEC_FILE).read_text(encoding="utf-8"))
        self.stop_requested = threading.Event()
        self._lock = threading.Lock()
        self._spool = Spool(self.folder)
        self._points: list[dict[str, Any]] = []
        self._progress: dict[str, Any] | None = None
        self._progress_time = -math.inf
        self._failure: OSError | None = None
        self._closing = threading.Event()
        self._link = ReportLink(self.spec, self._spool, self._state)
        if handle_signals and threading.current_thread() is threading.main_thread():
            # Not set here: the interrupted thread may just hold the lock of the event.
            signal.signal(signal.SIGTERM, lambda _number, _frame: self._link.run_soon(self.stop_requested.set))
        self._ticker = threading.Thread(target=self._tick, name="reporter-gather", daemon=True)
        self._wake = threading.Event()
        self._link.start()
        self._ticker.start()

    @property
    def last_number(self) -> int:
        """Number of the last report on the disk."""
        return self._spool.last

    def send(self, kind: str, body: Mapping[str, Any]) -> int:
        """Store a report and return its number; what was gathered before it is stored before it.

        Raises: OSError: it could not be stored. ValueError: it is larger than 512 KiB; large things go to the store.
        """
        with self._lock:
            if self._failure is not None:
                raise self._failure
            self._store_gathered()
            number = self._store(kind, body)
        self._link.kick()
        return number

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Gather a point; the points of 100 ms become one report. What is no finite number is left out."""
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        with self._lock:
            if self._points and self._points[-1]["step"] == step:
                self._points[-1]["values"].update(finite)
            else:
                self._points.append({"step": step, "values": finite})
        self._wake.set()

    def progress(
        self, done: float, total: float, unit: str = "", phase: str = "", eta_seconds: float | None = None
    ) -> None:
        """Say how far the work is; of several in half a second only the last is reported."""
        body = {"done": done, "total": total, "unit": unit, "phase": phase, "eta_seconds": eta_seconds}
        with self._lock:
            self._progress = body
        self._wake.set()

    def close(self, timeout: float = 10.0) -> bool:
        """Store what was gathered and wait until the bus has everything, at most `timeout` seconds.

        Returns whether it has. The service reads the rest from the spool.
        """
        with self._lock:
            if self._closing.is_set():
                return self._spool.sent >= self._spool.last
            self._closing.set()
            self._store_gathered()
        self._wake.set()
        self._ticker.join()
        done = self._link.close(timeout)
        if not done:
            _log.warning("%d reports are left in the spool", self._spool.last - self._spool.sent)
        self._spool.close()
        return done

    def __exit__(self, *_: object) -> None:
        self.close()

    def _state(self) -> str:
        if self._closing.is_set():
            return "CLOSING"
        return "STOPPING" if self.stop_requested.is_set() else "RUNNING"

    def _tick(self) -> None:
        """Store gathered points and progress soon after they came."""
        while not self._closing.is_set():
            self._wake.wait()
            self._wake.clear()
            if self._closing.wait(GATHER_SECONDS):
                return
            with self._lock:
                if self._closing.is_set():
                    return
                try:
                    self._store_gathered(throttled=True)
                except OSError as error:  # the next `send` raises it, in the worker's own thread
                    self._failure = error
                if self._progress is not None:
                    self._wake.set()
            self._link.kick()

    def _store_gathered(self, *, throttled: bool = False) -> None:
        if self._points:
            self._store("metrics", {"points": self._points})
            self._points = []
        fresh = time.monotonic() - self._progress_time < PROGRESS_SECONDS
        if self._progress is not None and not (throttled and fresh):
            self._store("progress", self._progress)
            self._progress = None
            self._progress_time = time.monotonic()

    def _store(self, kind: str, body: Mapping[str, Any]) -> int:
        report = {
            "format": FORMAT,
            "job_id": self.spec["job_id"],
            "attempt": self.spec["attempt"],
            "token": self.spec["token"],
            "secret": self.spec.get("secret", ""),
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "kind": kind,
            "body": dict(body),
        }
        size = len(json.dumps(report["body"], ensure_ascii=False).encode())
        if size > LARGEST_REPORT_BYTES:
            raise ValueError(f"A report of kind {kind!r} has {size} bytes; at most {LARGEST_REPORT_BYTES} are sent.")
        return self._spool.append(report)
