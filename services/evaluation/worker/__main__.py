"""`python -m services.evaluation.worker FOLDER`: runs the attempt whose spec.json is in FOLDER."""

import logging
import os
import sys
from pathlib import Path

from services.chassis.errors import Denied, Invalid, ModelryError, NotFound
from services.chassis.reporting import Reporter

_logger = logging.getLogger("services.evaluation.worker")


def main(folder: Path) -> int:
    """Run; returns the exit code: 0 after `finished` and `stopped`, 1 after `failed`."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    with Reporter(folder) as reporter:
        try:
            return _run(reporter)
        except Exception as error:  # the edge of the program: whatever happened becomes a report
            _logger.exception("the evaluation failed")
            reporter.send("failed", _failure(error))
            return 1


def _run(reporter: Reporter) -> int:
    # torch is imported only now, so that the reporter beats while it loads and says so when it cannot.
    reporter.progress(0, 0, "samples", "starting")
    import torch
    import transformers

    from services.evaluation.worker.generation import prepare_environment
    from services.evaluation.worker.run import Run, StopRequested

    run = Run(reporter)
    prepare_environment(run.cache, run.cpus, run.work.kv_space_gb)
    threads = _threads(run.cpus)
    if threads:
        torch.set_num_threads(threads)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    reporter.send("started", {"pid": os.getpid(), "threads": torch.get_num_threads(), "versions": versions})
    try:
        result = run.execute()
    except StopRequested:
        reporter.send("stopped", {"step": run.done})
        return 0
    reporter.send("finished", {"result": result})
    return 0


def _threads(cpus: str) -> int:
    """How many cores "0-1" or "0,2" are; 0 when nothing is said."""
    count = 0
    for part in filter(None, cpus.split(",")):
        first, _, last = part.partition("-")
        count += int(last or first) - int(first) + 1
    return count


def _failure(error: Exception) -> dict[str, str]:
    """What people are told of an error; a surprise is the system's and tells no internals."""
    from services.chassis.worker import Inexpressible
    from services.evaluation.benchmarks.layouts import LayoutError
    from services.evaluation.benchmarks.presets import PresetError

    known = {LayoutError: "INVALID_BENCHMARK", PresetError: "INVALID_BENCHMARK", Inexpressible: "INVALID_PROMPT"}
    for kind, reason in known.items():
        if isinstance(error, kind):
            return {"reason": reason, "message": str(error), "kind": "USER"}
    if type(error).__name__ == "LabelError":  # of a module that imports torch
        return {"reason": "UNSCORABLE_MODEL", "message": str(error), "kind": "USER"}
    if isinstance(error, ModelryError):
        users = isinstance(error, (Invalid, NotFound, Denied))
        return {"reason": error.reason, "message": str(error), "kind": "USER" if users else "SYSTEM"}
    return {
        "reason": "WORKER_FAILED",
        "message": "The evaluation failed unexpectedly; its log says where.",
        "kind": "SYSTEM",
    }


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
