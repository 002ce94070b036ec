"""`python -m services.evaluation.worker FOLDER`: runs the attempt whose spec.json is in FOLDER."""

import os
import sys
from pathlib import Path

from services.chassis.engines import core_count
from services.chassis.launch import ProgramResult
from services.chassis.reporting import Reporter
from services.chassis.worker import FailureWords, Inexpressible, log_to_stderr, run_attempt
from services.evaluation.benchmarks.layouts import LayoutError
from services.evaluation.benchmarks.presets import PresetError

WORDS = FailureWords(
    "WORKER_FAILED",
    "The evaluation failed unexpectedly; its log says where.",
    known={
        LayoutError: ProgramResult({}, "INVALID_BENCHMARK", "{}", user=True),
        PresetError: ProgramResult({}, "INVALID_BENCHMARK", "{}", user=True),
        Inexpressible: ProgramResult({}, "INVALID_PROMPT", "{}", user=True),
    },
)


def main(folder: Path) -> int:
    """Run; returns the exit code: 0 after `finished` and `stopped`, 1 after `failed`."""
    log_to_stderr()
    with Reporter(folder) as reporter:
        return run_attempt(reporter, lambda: _run(reporter), WORDS)


def _run(reporter: Reporter) -> None:
    # torch is imported only now, so that the reporter beats while it loads and says so when it cannot.
    reporter.progress(0, 0, "samples", "starting")
    import torch
    import transformers

    from services.evaluation.worker.generation import prepare_environment
    from services.evaluation.worker.run import Run, StopRequested

    run = Run(reporter)
    prepare_environment(run.cache, run.cpus, run.work.kv_space_gb)
    threads = core_count(run.cpus)
    if threads:
        torch.set_num_threads(threads)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    reporter.send("started", {"pid": os.getpid(), "threads": torch.get_num_threads(), "versions": versions})
    try:
        result = run.execute()
    except StopRequested:
        reporter.send("stopped", {"step": run.done})
    else:
        reporter.send("finished", {"result": result})


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
