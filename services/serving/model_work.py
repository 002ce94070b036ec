"""What serving's one-shot programs are told: one contract, for the service that writes it and the program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from services.chassis.errors import Invalid

FORMAT = 1
MODULE = "services.serving.worker"


class WorkKind(StrEnum):
    """What is done with a model."""

    MERGE = "merge"
    """An adapter is merged into its base: the output is a model's folder."""
    DESCRIBE = "describe"
    """How its chats become tokens is written: the output is a JSON file."""


@dataclass(frozen=True)
class ModelWork:
    """One order. The output is there, whole, when it has succeeded; one that is there already is success.

    `adapter` is None where there is nothing to merge.
    """

    kind: WorkKind
    model: Path
    output: Path
    adapter: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the spec."""
        adapter = {"adapter_path": str(self.adapter)} if self.adapter else {}
        paths = {"model_path": str(self.model), "output_path": str(self.output)}
        return {"format": FORMAT, "kind": self.kind.value, **paths, **adapter}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ModelWork:
        """Return the order that `to_json` wrote. Raises: Invalid: it is of another format."""
        if content.get("format") != FORMAT:
            raise Invalid(f"The spec has format {content.get('format')}; this program reads {FORMAT}.", field="format")
        adapter = content.get("adapter_path")
        return cls(
            WorkKind(content["kind"]),
            Path(content["model_path"]),
            Path(content["output_path"]),
            Path(adapter) if adapter else None,
        )
