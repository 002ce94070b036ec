"""A fine-tuning worker without torch: the same reports, checkpoints of a few bytes, a loss that falls.

A file `slow` in the home's folder makes each step take 50 ms, a file `lingers` keeps the worker after its last report.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from services.chassis.ids import new_id
from services.chassis.objects import ObjectStore, StoreAccess, upload_folder
from services.chassis.reporting import Reporter


def main() -> int:
    """Runs one attempt."""
    reporter = Reporter(sys.argv[1])
    work = reporter.spec["work"]
    slow = (reporter.folder.parents[1] / "slow").exists()
    begin = (work["resume"] or {}).get("step", 0)
    steps = int(work["hyperparameters"]["epochs"])
    reporter.send("started", {"pid": os.getpid(), "threads": 1})
    for step in range(begin + 1, steps + 1):
        if reporter.stop_requested.wait(0.05 if slow else 0.001):
            save(reporter, work, step - 1)
            reporter.send("stopped", {"step": step - 1})
            reporter.close(2)
            return 0
        reporter.metrics(step, {"loss": 1 / step, "learning_rate": work["hyperparameters"]["learning_rate"]})
        reporter.progress(step, steps, "steps", "training")
        if step % (work["hyperparameters"]["checkpoint_interval"] or steps) == 0:
            save(reporter, work, step)
    reporter.send("finished", {"result": {}})
    reporter.close(2)
    if (reporter.folder.parents[1] / "lingers").exists():
        time.sleep(60)
    return 0


def save(reporter: Reporter, work: dict[str, Any], step: int) -> None:
    """Uploads a checkpoint and reports it."""
    prefix = f"{work['output']['prefix']}/checkpoint-{step}"
    store = ObjectStore(StoreAccess.from_json(reporter.spec["stores"]["output"]))
    with tempfile.TemporaryDirectory() as scratch:
        adapter = Path(scratch) / "adapter"
        adapter.mkdir()
        (adapter / "adapter_config.json").write_text("{}")
        (adapter / "adapter_model.safetensors").write_bytes(bytes([step % 256]))
        (Path(scratch) / "optimizer.pt").write_bytes(b"state")
        manifest = upload_folder(store, work["output"]["bucket"], prefix, Path(scratch))
    reporter.send(
        "checkpoint",
        {
            "checkpoint_id": new_id("ftckpt_"),
            "step": step,
            "epoch": float(step),
            "bucket": work["output"]["bucket"],
            "prefix": prefix,
            "manifest": manifest.to_json(),
            "metrics": {"loss": 1 / step} if step else {},
            "fingerprint": "fp",
        },
    )


if __name__ == "__main__":
    sys.exit(main())
