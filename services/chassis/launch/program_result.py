"""What a program and its service write for each other into the program's folder. Standard library only."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.chassis.launch import shim

PROGRAM_SPEC_FILE = "spec.json"
RESULT_FILE = "result.json"
PROGRESS_FILE = "progress.json"


@dataclass(frozen=True)
class ProgramResult:
    """How a program ended.

    Attributes:
        result: what it made; of a failure, what it found out until then.
        reason, message: what was wrong, for programs and for people; empty when it is done.
        user: whether the one who asked can mend it.
    """

    result: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    message: str = ""
    user: bool = False

    @property
    def ok(self) -> bool:
        """Whether it did all that it was told."""
        return not self.reason

    def to_json(self) -> dict[str, Any]:
        """Return the content of `result.json`."""
        failure = {} if self.ok else {"reason": self.reason, "message": self.message, "user": self.user}
        return {"format": shim.FORMAT, "ok": self.ok, "result": dict(self.result), **failure}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ProgramResult:
        """Return the result that `to_json` wrote; one without `format` is from the version before."""
        result = content.get("result") or {}
        if content["ok"]:
            return cls(result)
        return cls(result, content["reason"], content["message"], bool(content["user"]))


def write_spec(folder: Path, spec: Mapping[str, Any]) -> None:
    """Write what a program is told, whole or not at all, readable for this user alone: it may hold secrets."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    shim.write_json(str(folder / PROGRAM_SPEC_FILE), dict(spec))


def read_result(folder: Path) -> ProgramResult | None:
    """Return how the program of a folder ended; None: it has not said so."""
    content = shim.read_json(str(folder / RESULT_FILE))
    return None if content is None else ProgramResult.from_json(content)


def write_result(folder: Path, result: ProgramResult) -> None:
    """Say how the program of a folder ended: whole or not at all."""
    shim.write_json(str(folder / RESULT_FILE), result.to_json())


def write_progress(folder: Path, progress: Mapping[str, Any]) -> None:
    """Say how far the program is. The last word counts, and a crash may forget it."""
    part = folder / f"{PROGRESS_FILE}.new"
    part.write_text(json.dumps(progress), "utf-8")
    os.replace(part, folder / PROGRESS_FILE)
