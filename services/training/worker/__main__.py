"""`python -m services.training.worker FOLDER`: runs the attempt whose spec.json is in FOLDER.

Under `python -m torch.distributed.run` every rank runs this; the first reports.
"""

import logging
import os
import sys
from pathlib import Path
from typing import Any

from services.chassis.errors import Denied, Invalid, ModelryError, NotFound
from services.chassis.reporting import Reporter

_logger = logging.getLogger("services.training.worker")


def main(folder: Path) -> int:
    """Run; returns the exit code: 0 after `finished` and `stopped`, 1 after `failed`."""
    rank = int(os.environ.get("RANK", "0"))
    level = logging.INFO if rank == 0 else logging.WARNING
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    if rank:
        from services.training.worker.progress_reporting import Silent
        from services.training.worker.ranks import stop_signal

        return _guarded(Silent(folder, stop_signal()), folder)
    with Reporter(folder) as reporter:
        return _guarded(reporter, folder)


def _guarded(voice: Any, folder: Path) -> int:
    try:
        _run(voice, folder)
    except Exception as error:  # the edge of the program: whatever happened becomes a report
        _logger.exception("training failed")
        voice.send("failed", failure(error))
        return 1
    return 0


def _run(voice: Any, folder: Path) -> None:
    # torch is imported only now, so that the reporter beats while it loads and says so when it cannot.
    voice.progress(0, 0, "steps", "starting")
    from services.training.worker import hardware
    from services.training.worker.spec import Work

    column = hardware.hardware()
    hardware.prepare(column, str(voice.spec.get("cpus") or ""))
    import torch
    import transformers

    from services.training.worker.recipes import lora_sft

    transformers.logging.set_verbosity_error()
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    voice.send("started", {"pid": os.getpid(), "threads": torch.get_num_threads(), "versions": versions})
    lora_sft.main(lora_sft.Config(Work.parse(voice.spec), folder, voice, column))


def failure(error: Exception) -> dict[str, str]:
    """Return what people are told of an error; a surprise is the system's and tells no internals."""
    from services.chassis.worker import Inexpressible
    from services.training.worker.inputs import UserError
    from services.training.worker.state import ResumeRefused

    if isinstance(error, UserError):
        return {"reason": error.reason, "message": str(error), "kind": "USER"}
    if isinstance(error, Inexpressible):
        return {"reason": "NO_CHAT_TEMPLATE", "message": f"The model cannot be tuned: {error}.", "kind": "USER"}
    if isinstance(error, ResumeRefused):
        return {"reason": "CHECKPOINT_UNUSABLE", "message": str(error), "kind": "SYSTEM"}
    if isinstance(error, ModelryError):
        users = isinstance(error, (Invalid, NotFound, Denied))
        return {"reason": error.reason, "message": str(error), "kind": "USER" if users else "SYSTEM"}
    if isinstance(error, MemoryError):
        return {"reason": "OUT_OF_MEMORY", "message": "There was not enough memory.", "kind": "SYSTEM"}
    message = "Training failed unexpectedly; the job's log says where."
    return {"reason": "WORKER_FAILED", "message": message, "kind": "SYSTEM"}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
