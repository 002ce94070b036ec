"""`python -m services.serving.worker FOLDER`: merges one adapter into its base.

FOLDER/spec.json is `{"base_path", "adapter_path", "output_path"}`. FOLDER/result.json, written by rename, says how it
ended: `{"ok": true, "result": {…}}`, or `{"ok": false, "reason", "message", "user"}`.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from services.chassis.errors import Invalid, ModelryError


def run(spec: dict[str, Any]) -> dict[str, Any]:
    """The outcome of a merge, as result.json has it."""
    # Imported here: an import that fails is an outcome too.
    from services.serving.worker.merging import merge

    return merge(Path(spec["base_path"]), Path(spec["adapter_path"]), Path(spec["output_path"]))


def main(folder: Path) -> int:
    """Run, and write how it ended; 0 when the merged model is there."""
    spec = json.loads((folder / "spec.json").read_text("utf-8"))
    try:
        outcome: dict[str, Any] = {"ok": True, "result": run(spec)}
    except ModelryError as error:
        user = isinstance(error, Invalid)
        outcome = {"ok": False, "reason": error.reason, "message": error.message, "user": user}
    except Exception as error:  # an edge: the log has the traceback, the result one line
        traceback.print_exc()
        message = f"The adapter cannot be merged ({type(error).__name__}); the log says more."
        outcome = {"ok": False, "reason": "MERGE_FAILED", "message": message, "user": False}
    print(json.dumps(outcome), flush=True)
    part = folder / "result.part"
    part.write_text(json.dumps(outcome), "utf-8")
    os.replace(part, folder / "result.json")
    return 0 if outcome["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
