"""What a rank says and hears: the first reports to the service, the others keep silent."""

import json
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.chassis.reporting import SPEC_FILE, Reporter

WINDOW_SECONDS = 60.0


class NullSink:
    """The reporter of a rank that does not report."""

    def __init__(self, folder: Path, stop: threading.Event) -> None:
        self.spec: dict[str, Any] = json.loads((folder / SPEC_FILE).read_text(encoding="utf-8"))
        self.stop_requested = stop

    def send(self, kind: str, body: Mapping[str, Any]) -> int:
        """Say nothing."""
        return 0

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Say nothing."""

    def progress(self, *words: object) -> None:
        """Say nothing."""


ReportSink = Reporter | NullSink


class Throughput:
    """Real tokens and steps a second, over the last minute of training."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int, int]] = deque()
        self._busy = 0.0

    def add(self, seconds: float, tokens: int) -> None:
        """Count a step that took so long."""
        self._marks.append((seconds, tokens, 1))
        self._busy += seconds
        while len(self._marks) > 1 and self._busy - self._marks[0][0] > WINDOW_SECONDS:
            self._busy -= self._marks.popleft()[0]

    @property
    def tokens_per_second(self) -> float:
        """Real tokens, without evaluation and checkpoints."""
        return sum(tokens for _, tokens, _ in self._marks) / self._busy if self._busy else 0.0

    def eta_seconds(self, steps: int) -> float | None:
        """Return how long so many steps will take; None while nothing is known."""
        return steps * self._busy / len(self._marks) if self._marks else None
