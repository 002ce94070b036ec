"""A worker without torch: counts steps, writes checkpoints, and does what its spec's `work` says.

`work`: steps, step_seconds, checkpoint_every, fail_at {step, kind}, die_at [step of attempt 1, of attempt 2, …],
hang_at, gate (a file: the last step waits until it exists), says (a line of its log),
deaf (it ignores SIGTERM), silent (no heartbeats).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from services.chassis.reporting import Reporter


def loss(step: int) -> float:
    """The loss of a step: the same in every attempt."""
    return 1.0 / step


def main() -> int:
    """Runs one attempt."""
    reporter = Reporter(sys.argv[1])
    spec, work = reporter.spec, reporter.spec["work"]
    if work.get("deaf"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    begin = (work["resume"] or {}).get("step", 0)
    reporter.send("started", {"pid": os.getpid(), "resume_step": begin})
    print(f"attempt {spec['attempt']} begins after step {begin}", flush=True)
    if "says" in work:
        print(work["says"], flush=True)
    for step in range(begin + 1, work["steps"] + 1):
        if reporter.stop_requested.wait(work.get("step_seconds", 0.01)):
            checkpoint(reporter, step - 1)
            reporter.send("stopped", {"step": step - 1})
            reporter.close(timeout=work.get("close_seconds", 2))
            return 0
        ending = unhappy(reporter, work, spec["attempt"], step)
        if ending is not None:
            return ending
        reporter.metrics(step, {"loss": loss(step), "learning_rate": 0.1})
        reporter.progress(step, work["steps"], "steps", "training")
        if work.get("checkpoint_every") and step % work["checkpoint_every"] == 0:
            checkpoint(reporter, step)
    wait_for_gate(work)
    reporter.send("finished", {"result": {"steps": work["steps"]}})
    reporter.close(timeout=work.get("close_seconds", 2))
    return 0


def checkpoint(reporter: Reporter, step: int) -> None:
    """Reports a checkpoint."""
    reporter.send("checkpoint", {"checkpoint_id": f"ck-{reporter.spec['attempt']}-{step}", "step": step})


def unhappy(reporter: Reporter, work: dict[str, Any], attempt: int, step: int) -> int | None:
    """What goes wrong at this step, if anything; an exit code ends the worker."""
    deaths = work.get("die_at") or []
    if attempt <= len(deaths) and deaths[attempt - 1] == step:
        os.kill(os.getpid(), signal.SIGKILL)
    failing = work.get("fail_at")
    if failing and failing["step"] == step:
        reporter.send("failed", {"reason": "TOY_FAILED", "message": "It was told to fail.", "kind": failing["kind"]})
        reporter.close(timeout=2)
        return 1
    if work.get("hang_at") == step and attempt == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    return None


def wait_for_gate(work: dict[str, Any]) -> None:
    """Waits until the gate's file exists."""
    while work.get("gate") and not Path(work["gate"]).exists():
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
