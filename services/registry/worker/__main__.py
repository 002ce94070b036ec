"""`python -m services.registry.worker FOLDER`: prepares one model version.

FOLDER/spec.json names sources, tried in order, and where the weights go. FOLDER/result.json, written by rename, says
how it ended: `{"ok": true, "result": {…}}`, or `{"ok": false, "reason", "message", "user"}`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

from services.chassis.errors import Invalid, ModelryError, Unavailable
from services.chassis.objects import ObjectStore, StoreAccess, upload_folder
from services.registry.worker.describing import describe
from services.registry.worker.sources import fetch


def prepare(folder: Path, spec: dict[str, Any]) -> dict[str, Any]:
    """Fetch from the first source that works, check and describe the model, and store it. Raises: ModelryError."""
    scratch = folder / "model"
    _fetch_first(spec["sources"], scratch)
    print("describing the model", flush=True)
    facts = describe(scratch)
    output = spec["output"]
    store = ObjectStore(StoreAccess.from_json(output["access"]))
    print("storing the model", flush=True)
    manifest = upload_folder(store, output["bucket"], output["prefix"], scratch)
    shutil.rmtree(scratch)
    return {"bucket": output["bucket"], "prefix": output["prefix"], "manifest": manifest.to_json(), **facts}


def _fetch_first(sources: list[dict[str, Any]], scratch: Path) -> None:
    problems = []
    for source in sources:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        try:
            print(f"fetching from {source['kind']}", flush=True)
            fetch(source, scratch)
        except ModelryError as error:
            if len(sources) == 1:
                raise
            problems.append(f"{source['kind']}: {error.message}")
        else:
            return
    raise Unavailable("No source of this model can be reached. " + " ".join(problems), reason="NO_SOURCE")


def main(folder: Path) -> int:
    """Run, and write how it ended; 0 when the model was stored."""
    spec = json.loads((folder / "spec.json").read_text("utf-8"))
    try:
        outcome: dict[str, Any] = {"ok": True, "result": prepare(folder, spec)}
    except ModelryError as error:
        user = isinstance(error, Invalid)
        outcome = {"ok": False, "reason": error.reason, "message": error.message, "user": user}
    except Exception as error:  # an edge: the log has the traceback, the result one line
        traceback.print_exc()
        message = f"The model cannot be prepared ({type(error).__name__}); the log says more."
        outcome = {"ok": False, "reason": "PREPARATION_FAILED", "message": message, "user": False}
    part = folder / "result.part"
    part.write_text(json.dumps(outcome), "utf-8")
    os.replace(part, folder / "result.json")
    return 0 if outcome["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
