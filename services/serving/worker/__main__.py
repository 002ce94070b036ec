"""`python -m services.serving.worker FOLDER`: one-shot work on a model, told by FOLDER/spec.json in `work`.

- `{"mode": "merge", "base_path", "adapter_path", "output_path"}` merges an adapter into its base.
- `{"mode": "describe", "model_path", "output_path"}` writes how the model's chats become tokens.

The output is there, whole, when it has succeeded; one that is there already is success. FOLDER/result.json, written by
rename, says how it ended: `{"ok": true, "result": {…}}`, or `{"ok": false, "reason", "message", "user"}`. The last
line of the log is the message.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from services.chassis.errors import Invalid, ModelryError


def run(work: dict[str, Any]) -> dict[str, Any]:
    """What the work gave, as result.json has it. Raises: ModelryError."""
    output = Path(work["output_path"])
    if output.exists():
        return {"existed": True}
    output.parent.mkdir(parents=True, exist_ok=True)
    # Imported here: an import that fails is an outcome too.
    if work["mode"] == "describe":
        return describe(Path(work["model_path"]), output)
    from services.serving.worker.merging import merge

    return merge(Path(work["base_path"]), Path(work["adapter_path"]), output)


def describe(model: Path, output: Path) -> dict[str, Any]:
    """Writes fingerprint and samples of a model that came without them. Raises: Invalid."""
    from services.chassis.worker import describe_chat, load_tokenizer

    try:
        chat = describe_chat(load_tokenizer(model))
    except (OSError, ValueError) as error:
        raise Invalid(f"The model's tokenizer cannot be used: {error}", reason="INVALID_MODEL") from error
    part = output.with_name(f"{output.name}.{os.getpid()}")
    part.write_text(json.dumps({"format": 1, **chat}, ensure_ascii=False), "utf-8")
    os.replace(part, output)
    return {"existed": False, "fingerprint": chat["fingerprint"]}


def main(folder: Path) -> int:
    """Run, and write how it ended; 0 when the output is there."""
    spec = json.loads((folder / "spec.json").read_text("utf-8"))
    try:
        outcome: dict[str, Any] = {"ok": True, "result": run(spec["work"])}
    except ModelryError as error:
        user = isinstance(error, Invalid)
        outcome = {"ok": False, "reason": error.reason, "message": error.message, "user": user}
    except Exception as error:  # an edge: the log has the traceback, the result one line
        traceback.print_exc()
        message = f"The model cannot be prepared ({type(error).__name__}: {error})."
        outcome = {"ok": False, "reason": "PROGRAM_FAILED", "message": message, "user": False}
    part = folder / "result.part"
    part.write_text(json.dumps(outcome), "utf-8")
    os.replace(part, folder / "result.json")
    print(outcome.get("message") or json.dumps(outcome["result"]), flush=True)
    return 0 if outcome["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
