"""The edge of every worker program: it reads the spec, turns whatever happens into a result or a report, and exits.

Nothing here imports torch or transformers.
"""

import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from services.chassis.errors import Denied, Invalid, ModelryError, NotFound
from services.chassis.launch import PROGRAM_SPEC_FILE, ProgramResult, write_result
from services.chassis.launch.shim import lower_priority

_log = logging.getLogger(__name__)
_NICENESS = 15
"""One-shot programs share their cores with replicas, which answer people."""


@dataclass(frozen=True)
class FailureWords:
    """What a program says of errors.

    Attributes:
        reason, message: of a surprise; the message tells no internals.
        known: what errors of libraries and pure modules mean; `{}` in the message is for the error's own words.
    """

    reason: str
    message: str
    known: Mapping[type[Exception], ProgramResult] = field(default_factory=dict)

    def of(self, error: Exception) -> ProgramResult:
        """Return what people are told of an error, and whether they can mend it."""
        for kind, failure in self.known.items():
            if isinstance(error, kind):
                return replace(failure, message=failure.message.format(error))
        if isinstance(error, ModelryError):
            user = isinstance(error, (Invalid, NotFound, Denied))
            return ProgramResult(reason=error.reason, message=error.message, user=user)
        if isinstance(error, MemoryError):
            return ProgramResult(reason="OUT_OF_MEMORY", message="There was not enough memory.")
        return ProgramResult(reason=self.reason, message=self.message)


class ReportSink(Protocol):
    """Where the last report of an attempt goes."""

    def send(self, kind: str, body: Mapping[str, Any]) -> int:
        """See `Reporter.send`."""


def run_attempt(sink: ReportSink, work: Callable[[], None], words: FailureWords) -> int:
    """Run the attempt of a job, and report `failed` when it breaks. Return the exit code."""
    try:
        work()
    except Exception as error:  # the edge of the program: whatever happened becomes a report
        _log.exception("the attempt failed")
        failure = words.of(error)
        kind = "USER" if failure.user else "SYSTEM"
        sink.send("failed", {"reason": failure.reason, "message": failure.message, "kind": kind})
        return 1
    return 0


def run_program(work: Callable[[Path, Mapping[str, Any]], ProgramResult], words: FailureWords) -> int:
    """Run the one-shot program of `argv[1]`, its folder, and write its result. Return the exit code.

    `work` is given the folder and the content of its spec; the last line of the log is what was wrong.
    """
    folder = Path(sys.argv[1])
    lower_priority(os.getpid(), _NICENESS)
    try:
        result = work(folder, json.loads((folder / PROGRAM_SPEC_FILE).read_text("utf-8")))
    except ModelryError as error:
        result = words.of(error)
    except Exception as error:  # the edge of the program: the log has the traceback, the result a sentence
        traceback.print_exc()
        result = words.of(error)
    write_result(folder, result)
    print(result.message or "done", flush=True)
    return 0 if result.ok else 1


def log_to_stderr(level: int = logging.INFO) -> None:
    """Send the log of an attempt to where its launcher keeps it."""
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
