"""`python -m services.serving.worker FOLDER`: one-shot work on a model, as `services/serving/model_work.py` says."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.chassis.errors import Invalid
from services.chassis.launch import ProgramResult
from services.chassis.worker import FailureWords, describe_chat, load_tokenizer, merge, run_program
from services.serving.model_work import ModelWork, WorkKind

WORDS = FailureWords("PROGRAM_FAILED", "The model cannot be prepared; the log says more.")


def run(folder: Path, spec: Mapping[str, Any]) -> ProgramResult:
    """Do what the spec says. Raises: ModelryError."""
    work = ModelWork.from_json(spec)
    if work.output_path.exists():
        return ProgramResult({"existed": True})
    work.output_path.parent.mkdir(parents=True, exist_ok=True)
    if work.kind is WorkKind.DESCRIBE:
        return ProgramResult(describe(work.model_path, work.output_path))
    assert work.adapter_path is not None, "a merge has an adapter"
    return ProgramResult(merge(work.model_path, work.adapter_path, work.output_path).to_json())


def describe(model: Path, output: Path) -> dict[str, Any]:
    """Write fingerprint and samples of a model that came without them. Raises: Invalid."""
    try:
        chat = describe_chat(load_tokenizer(model))
    except (OSError, ValueError) as error:
        raise Invalid(f"The model's tokenizer cannot be used: {error}", reason="INVALID_MODEL") from error
    part = output.with_name(f"{output.name}.{os.getpid()}")
    part.write_text(json.dumps({"format": 1, **chat}, ensure_ascii=False), "utf-8")
    os.replace(part, output)
    return {"existed": False, "fingerprint": chat["fingerprint"]}


if __name__ == "__main__":
    sys.exit(run_program(run, WORDS))
