"""A one-shot program for tests of the launcher: does what its spec says."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.chassis.errors import Invalid
from services.chassis.launch import ProgramResult, write_progress
from services.chassis.worker import FailureWords, run_program

WORDS = FailureWords("TOY_FAILED", "The toy broke; its log says where.")


def play(folder: Path, spec: Mapping[str, Any]) -> ProgramResult:
    """Tells its environment, sleeps, and ends in the way that it is told."""
    write_progress(folder, {"step": 1})
    time.sleep(spec.get("seconds", 0))
    if "says" in spec:
        print(spec["says"], flush=True)
    match spec.get("end"):
        case "refuse":
            raise Invalid("The toy does not like this.", reason="NOT_LIKED")
        case "surprise":
            raise KeyError("inner secret of the toy")
        case "die":
            os._exit(9)
    facts = {"environment": dict(os.environ), "niceness": os.nice(0), "pid": os.getpid()}
    return ProgramResult(facts)


if __name__ == "__main__":
    sys.exit(run_program(play, WORDS))
