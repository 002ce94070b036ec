"""`python -m services.training.worker FOLDER`: runs the attempt whose spec.json is in FOLDER.

Under `python -m torch.distributed.run` every rank runs this; the first reports.
"""

import logging
import os
import sys
from pathlib import Path
from typing import Any

from services.chassis.launch import ProgramResult
from services.chassis.reporting import Reporter
from services.chassis.worker import FailureWords, Inexpressible, log_to_stderr, run_attempt

WORDS = FailureWords(
    "WORKER_FAILED",
    "Training failed unexpectedly; the job's log says where.",
    known={Inexpressible: ProgramResult({}, "NO_CHAT_TEMPLATE", "The model cannot be tuned: {}.", user=True)},
)


def main(folder: Path) -> int:
    """Run; returns the exit code: 0 after `finished` and `stopped`, 1 after `failed`."""
    rank = int(os.environ.get("RANK", "0"))
    log_to_stderr(logging.WARNING if rank else logging.INFO)
    if rank:
        from services.training.worker.progress_reporting import NullSink
        from services.training.worker.ranks import stop_signal

        silent = NullSink(folder, stop_signal())
        return run_attempt(silent, lambda: _run(silent, folder), WORDS)
    with Reporter(folder) as reporter:
        return run_attempt(reporter, lambda: _run(reporter, folder), WORDS)


def _run(reports: Any, folder: Path) -> None:
    # torch is imported only now, so that the reporter beats while it loads and says so when it cannot.
    reports.progress(0, 0, "steps", "starting")
    from services.training.work_spec import TrainingWork
    from services.training.worker import hardware

    accelerator = hardware.find_accelerator()
    hardware.prepare(accelerator, str(reports.spec.get("cpus") or ""))
    import torch
    import transformers

    from services.training.worker.recipes import lora_sft

    transformers.logging.set_verbosity_error()
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    reports.send("started", {"pid": os.getpid(), "threads": torch.get_num_threads(), "versions": versions})
    work = TrainingWork.from_json(reports.spec["work"])
    lora_sft.main(lora_sft.Config(work, folder, reports, accelerator))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
