"""`python -m services.registry.worker FOLDER` prepares one model, as `services/registry/preparation.py` says."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from services.chassis.errors import ModelryError, Unavailable
from services.chassis.launch import ProgramResult
from services.chassis.objects import ObjectStore, upload_folder
from services.chassis.worker import FailureWords, run_program
from services.registry.preparation import ModelSource, Preparation, PreparedModel
from services.registry.worker.describing import describe
from services.registry.worker.sources import fetch

WORDS = FailureWords("PREPARATION_FAILED", "The model cannot be prepared; the log says more.")


def prepare(folder: Path, spec: Mapping[str, Any]) -> ProgramResult:
    """Fetch from the first source that works, check and describe the model, and store it. Raises: ModelryError."""
    work = Preparation.from_json(spec)
    scratch = folder / "model"
    _fetch_first(work.sources, scratch)
    print("describing the model", flush=True)
    facts = describe(scratch)
    print("storing the model", flush=True)
    manifest = upload_folder(ObjectStore(work.access), work.bucket, work.prefix, scratch)
    shutil.rmtree(scratch)
    return ProgramResult(PreparedModel(work.bucket, work.prefix, manifest, facts).to_json())


def _fetch_first(sources: Sequence[ModelSource], scratch: Path) -> None:
    problems = []
    for source in sources:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        try:
            print(f"fetching from {source.kind}", flush=True)
            fetch(source, scratch)
        except ModelryError as error:
            if len(sources) == 1:
                raise
            problems.append(f"{source.kind}: {error.message}")
        else:
            return
    raise Unavailable("No source of this model can be reached. " + " ".join(problems), reason="NO_SOURCE")


if __name__ == "__main__":
    sys.exit(run_program(prepare, WORDS))
